"""Figures of merit of trained models: pure functions of arrays."""
