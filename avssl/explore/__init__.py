"""Clusters to look at: assignments, names, neighbours, the page, the labelled data set."""
