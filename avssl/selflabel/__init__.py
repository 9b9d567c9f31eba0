"""Self-labelling by optimal transport (SeLa, SeLaVi): functions of tensors, and the labelling state of a run."""
