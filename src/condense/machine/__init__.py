"""The machine that jobs run on: processes, memory, GPUs, SLURM, the terminal. What needs torch is imported by
its own name."""
