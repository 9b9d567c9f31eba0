"""Exploring clusters: assignments, names, neighbours, the page, the labelled data set."""
