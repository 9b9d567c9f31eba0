"""A run's folder: opened, its checkpoints, its status; published weights, and exports."""
