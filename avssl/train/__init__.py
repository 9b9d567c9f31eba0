"""The training loop, its checkpoints and its learning rates."""
