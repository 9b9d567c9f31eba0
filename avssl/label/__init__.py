"""New videos: a folder, a list, or files as they arrive."""
