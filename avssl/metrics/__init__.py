"""Metrics, as functions of arrays: clustering, information, retrieval, few-shot, probes, intervals."""
