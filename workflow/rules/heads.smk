# One head a folder, and what a head leaves behind. Snakemake's own lock outlives a head that was killed; ours goes with its
# process, so that what is left of Snakemake's can be removed and the same command goes on. It holds where Snakemake locks:
# not in dry runs, nor in the jobs of a cluster.
import shutil
from contextlib import contextmanager

from condense import locks, prune
from snakemake.persistence import PersistenceBase

LEAST_FREE = 16 << 20  # bytes; with less, a failed job is taken to have failed for want of space


def lock_of_one_head(persistence):
    """Keeps other heads out of this folder, and removes the lock of one that was killed."""
    try:
        with locks.only_head(Path(".snakemake/condense.lock")) as left_behind:
            if left_behind:
                persistence.unlock()
                Path(".snakemake/locks").mkdir(exist_ok=True)  # which goes with the locks, and is made at the start only
            with SNAKEMAKES_LOCK(persistence), queue_of_slurm():
                yield
    except locks.FolderTaken as error:
        raise WorkflowError(str(error)) from None


if not hasattr(PersistenceBase, "lock_without_head"):  # parsed twice in one process, it is wrapped once
    PersistenceBase.lock_without_head = PersistenceBase.lock
    PersistenceBase.lock = contextmanager(lock_of_one_head)
SNAKEMAKES_LOCK = PersistenceBase.lock_without_head


onsuccess:
    prune.sweep(Path("results"))


onerror:
    # A job writes its message to its log, which a full disk does not take.
    free = shutil.disk_usage("results").free
    if free < LEAST_FREE:
        print(f"results: the disk is full ({free / 1e6:.0f} MB left); nothing was damaged: free some space and run the same command again",
              file=sys.stderr, flush=True)
    print("What was finished stays; the same command goes on from there.", file=sys.stderr, flush=True)
