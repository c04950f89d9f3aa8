"""A long-lived process of the benchmark: reads one request a line, answers one line. Its allocator is as the environment says."""

import json
import os
import resource
import sys
import time

import torch

from condense.runtime import keep_freed_memory, set_threads

answers, sys.stdout = sys.stdout, sys.stderr


def main() -> None:
    """Requests: {"task": NAME, "settings": {}} prepares, {"steps": N} gives the seconds of N iterations."""
    if os.environ.get("BENCH_SETTLED") == "1":
        keep_freed_memory()
    set_threads(int(os.environ["BENCH_THREADS"]))
    from tasks import TASKS, augmentation_error, gradient_error, images_of

    data, task = {}, None
    for line in sys.stdin:
        request = json.loads(line)
        split = request.get("split", "train")
        if "task" in request or "gradient" in request:
            if split not in data:
                data = {split: images_of(os.environ.get("BENCH_DATA"), split)}
        if "task" in request:
            task = None
            task = TASKS[request["task"]](data[split], **request["settings"])
            answer = {}
        elif "gradient" in request:
            answer = gradient_error(data[split], **request["gradient"]) | {"augmentation": augmentation_error()}
        else:
            before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            for _ in range(request["steps"]):
                task.step()
            seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
            answer = {
                "seconds": seconds / request["steps"],
                "switched": after.ru_nivcsw - before.ru_nivcsw,
                "peak_memory_bytes": after.ru_maxrss * 1024,
            }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
