"""Measures how long Snakemake plans a scale here, in CPU seconds, so that what else the machine does says
little.

    python tests/benchmarks/planning.py [SCALE ...]     # quick and paper where none is named
"""

import re
import resource
import subprocess
import sys


def planned(scale: str) -> tuple[int, float]:
    """The number of jobs of a scale, and the CPU seconds of its dry run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "snakemake", "-n", "--config", f"scale={scale}", "mlflow=off"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    jobs = re.search(r"^total +(\d+)$", said.stdout + said.stderr, re.MULTILINE)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return int(jobs[1]) if jobs else 0, seconds


if __name__ == "__main__":
    for scale in sys.argv[1:] or ["quick", "paper"]:
        jobs, seconds = planned(scale)
        print(f"{scale}: {jobs} jobs, {seconds:.1f} s CPU")
