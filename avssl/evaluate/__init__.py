"""What encoders are good for: features, predictions, the published protocols, and their report."""
