"""From an index to batches on the device: decoding, order, augmentation, spectrograms."""
