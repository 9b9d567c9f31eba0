"""Self-labelling by optimal transport (SeLa, SeLaVi): pure functions of tensors, and the state that a run keeps."""
