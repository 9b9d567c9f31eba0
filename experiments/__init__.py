"""The methods' claims as experiments on the sample: which trainings, which figures, which verdicts."""
