"""From files to batches: index, decode, clips, and augmentation and spectrograms on the device."""
