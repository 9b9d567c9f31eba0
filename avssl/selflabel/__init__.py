"""Self-labelling by optimal transport (SeLa, SeLaVi): functions of tensors, and the state that a run keeps."""
