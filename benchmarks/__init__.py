"""Ours beside the published loops and peers."""
