"""How clips are taken out of a file: one module for each decoder, all with the same `read`."""
