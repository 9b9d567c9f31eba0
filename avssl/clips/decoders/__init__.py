"""The decoders, which read clips from a file. Each is a module with the function `read`."""
