"""What all other packages build on: errors, atomic files, untrusted files, safe paths, text for terminals."""
