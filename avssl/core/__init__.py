"""The base of all other packages: errors, atomic files, files from others, safe paths, text for terminals."""
