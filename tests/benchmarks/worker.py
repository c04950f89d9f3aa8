"""A long-lived process of the benchmark: reads one request a line, answers one line. Its allocator is as the
environment says."""

import json
import os
import resource
import sys
import time

import torch
from limits import waited
from safetensors.torch import load_file, save_file

from condense.machine.runtime import keep_freed_memory, set_threads

answers, sys.stdout = sys.stdout, sys.stderr


def main() -> None:
    """Requests, each an object with one of these keys and its settings.

    `task` prepares; `steps` gives the seconds of so many iterations, `seconds` the iterations in that time;
    `gradient` compares a gradient; `save` writes the images that were made, `judge` trains networks on such
    images and tests them.
    """
    if os.environ.get("BENCH_SETTLED") == "1":
        keep_freed_memory()
    set_threads(int(os.environ["BENCH_THREADS"]))
    from observed import TASKS
    from tasks import DEVICE, augmentation_error, gradient_error, images_of, judge

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
            answer = gradient_error(data[split], **request["gradient"]) | {
                "augmentation": augmentation_error()
            }
        elif "seconds" in request:
            began, steps = time.perf_counter(), 0
            while time.perf_counter() - began < request["seconds"]:
                task.step()
                steps += 1
            waited(DEVICE)
            answer = {"steps": steps}
        elif "save" in request:
            save_file({"images": task.result().contiguous()}, request["save"])
            answer = {}
        elif "judge" in request:
            images = load_file(request["judge"])["images"]
            answer = {
                "accuracies": judge(
                    images,
                    images_of(os.environ["BENCH_DATA"], "test"),
                    request["networks"],
                    request["epochs"],
                )
            }
        else:
            waited(DEVICE)
            before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            for _ in range(request["steps"]):
                task.step()
            waited(DEVICE)
            seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
            answer = {
                "seconds": seconds / request["steps"],
                "switched": after.ru_nivcsw - before.ru_nivcsw,
                "peak_memory_bytes": torch.cuda.max_memory_allocated()
                if DEVICE.type == "cuda"
                else after.ru_maxrss * 1024,
            }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
