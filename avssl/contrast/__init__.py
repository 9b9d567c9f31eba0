"""Composed contrast (GDT): which transformations of a video to be distinct to, and which to be invariant to.

`axes` are the transformations, `composition` says what is compared with what, `loss` is the objective. None of them
knows a file or a model: `contrastive_loss(z, codes, composition)` runs in a notebook with nothing else imported.
"""
