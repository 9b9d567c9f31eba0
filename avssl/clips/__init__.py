"""From an index to batches on the device: order, decoding, augmentation, spectrograms."""
