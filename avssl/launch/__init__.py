"""Launch runs in this process, in several processes on this machine, or as a SLURM job."""
