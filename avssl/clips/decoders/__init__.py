"""The decoders, which read clips from a file: one module for each, all with the same function `read`."""
