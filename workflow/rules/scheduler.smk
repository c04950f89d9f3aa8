# Snakemake 9 starts a timer at every look at the queue, each timer causes another look, and every finished job adds one
# more: after some hundred jobs it runs out of threads (its issue 3804). One timer at a time does what is needed.
import inspect
import threading
import time

from snakemake.common import overwrite_function_params
from snakemake.resources import Resource
from snakemake.scheduling.job_scheduler import JobScheduler


def look_again_later(scheduler, delay):
    """Lets the scheduler look at the queue after `delay` seconds, unless it is going to do so anyway."""
    now = time.monotonic()
    if now >= getattr(scheduler, "_looks_again_at", now):
        scheduler._looks_again_at = now + delay
        timer = threading.Timer(delay, scheduler._open_jobs.release)
        timer.daemon = True  # nothing waits for it when the workflow ends
        timer.start()


if hasattr(JobScheduler, "_schedule_reevalutation"):  # so it is called; gone where it is mended
    JobScheduler._schedule_reevalutation = look_again_later

# Snakemake asks for the parameters of this function of its own some ten times a job, which is a twentieth of planning; its own way
# of telling it once.
if hasattr(Resource, "evaluate"):
    overwrite_function_params(Resource.evaluate, inspect.signature(Resource.evaluate).parameters)
