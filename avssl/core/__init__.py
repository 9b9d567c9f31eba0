"""What every other room builds on: safe paths, files that others wrote, text that a terminal or a sheet shows."""
