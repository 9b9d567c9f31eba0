"""Run folders: open them, their checkpoints, their status; published weights; exports."""
