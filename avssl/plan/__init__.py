"""Estimate the cost of a run before it begins: parts are measured on this machine, the rest is computed."""
