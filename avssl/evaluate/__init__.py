"""Evaluation: features, predictions, the published protocols, and their report."""
