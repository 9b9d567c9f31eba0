"""Composed contrast (GDT): representations that are distinct or invariant to chosen transformations of a video.

`axes` has the transformations, `composition` decides which clips are compared, `loss` is the objective. They need only
tensors: `contrastive_loss(z, codes, composition)` runs in a notebook with nothing else imported.
"""
