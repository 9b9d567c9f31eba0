"""Pure functions of arrays: clustering, information, retrieval, few-shot, probes, intervals."""
