"""Measures the engine against the plain loop of the literature: whole iterations, alternating between two
long-lived processes.

    python tests/benchmarks/bench.py [--rows TEXT] [--rounds 7] [--data FOLDER] [--accuracy]

On a GPU where there is one, unless BENCH_DEVICE=cpu: other rows, of iterations in milliseconds.

Without prepared images (`--data results/data/cifar10`) the speed is measured on noise of their shape;
accuracy needs real ones. What is printed is also written to results/benchmarks/engine.json
(on a GPU engine-gpu.json), which the report shows. Quote the median of the ratios: absolute seconds move with
whatever else runs on the machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import limits
import torch
from equal_time import compared_accuracies

from condense.files.artifacts import write_json
from condense.kernels import state
from condense.kernels.precision import processor_has_bfloat16
from condense.machine.runtime import code_version, cpu_name

HERE = Path(__file__).parent
DEVICE = os.environ.get("BENCH_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
OUT = Path("results/benchmarks/engine.json" if DEVICE == "cpu" else "results/benchmarks/engine-gpu.json")


@dataclass(frozen=True)
class Row:
    """One line of the table: what is compared, and the ratio that is asked for at least and aimed at."""

    title: str
    reference: tuple[str, dict]
    ours: tuple[str, dict]
    least: float
    aim: float
    gradient: dict = field(default_factory=dict)  # precision, ipc, batch: the error is shown beside the speed
    split: str = "train"
    steps: int = 1
    against_ours: bool = False  # the reference is the project's own engine, with its kernels and allocator
    in_ms: bool = False  # `least` and `aim` are milliseconds that an iteration of ours may take


def dm(ipc, precision, least, aim, batch=256, **more):
    words = {"mixed": "real bf16, synthetic fp32", "bf16": "all bf16", "fp32": "fp32"}[precision]
    words = (
        words
        if processor_has_bfloat16() or DEVICE == "cuda" or precision == "fp32"
        else f"{precision}: fp32 here, which is faster"
    )
    title = f"DM iteration, ipc {ipc}, {words}" + (f", {batch} real images" if batch != 256 else "")
    gradient = {"ipc": ipc, "batch": batch, "precision": precision}
    ours = {"sets": [["dm", ipc]], "batch": batch, "precision": precision}
    return Row(
        title, ("ReferenceMatching", {"ipc": ipc}), ("OurMatching", ours), least, aim, gradient, **more
    )


def sharing(title, sets, least, aim):
    settings = {"sets": sets}
    return Row(
        f"one real forward for {title}, against separate ones",
        ("Separate", settings),
        ("OurMatching", settings),
        least,
        aim,
        against_ours=True,
    )


def gradients(ipc, least, aim, **settings):
    inner = settings.get("inner", "its")
    title = f"DSA step, ipc {ipc}" + (f", with {inner} epochs of its network" if ipc > 1 else "")
    settings = {"ipc": ipc, "method": "dsa", **settings}
    return Row(title, ("ReferenceGradients", settings), ("OurGradients", settings), least, aim)


def epochs(arch, least, aim):
    """An epoch on a synthetic set of ten images a class, of a network that sets are transferred to."""
    settings = {"ipc": 10, "arch": arch}
    title = f"training epoch of {arch}, ipc 10"
    return Row(title, ("ReferenceEpoch", settings), ("OurEpoch", settings), least, aim)


def observed(title, kind, least, aim):
    """Work in which a trained ResNet-18 looks at the images."""
    return Row(
        f"{title}, ResNet-18, ipc 10",
        (f"Reference{kind}", {"ipc": 10}),
        (f"Our{kind}", {"ipc": 10}),
        least,
        aim,
    )


NETWORKS = {"ipc": 10, "networks": 20, "epochs": 100}
GPU_ROWS = [
    dm(10, "mixed", 2.6, 1.3, steps=100, in_ms=True),
    dm(50, "mixed", 4, 2, steps=100, in_ms=True),
    # A tenth of the 1,000 epochs of a protocol, and of the seconds asked for them.
    Row(
        "20 networks x 100 epochs, ipc 10",
        ("ReferenceNetworks", NETWORKS),
        ("OurNetworks", NETWORKS),
        1500,
        500,
        in_ms=True,
    ),
]
CPU_ROWS = [
    dm(1, "mixed", 5, 8),
    dm(10, "mixed", 5, 8),
    dm(50, "mixed", 3.5, 5),
    dm(10, "bf16", 6.5, 8.5),
    dm(50, "bf16", 4.5, 6.5),
    dm(10, "fp32", 3, 4),
    dm(10, "mixed", 14, 20, batch=64),
    sharing("ipc 1+10+50", [["dm", 1], ["dm", 10], ["dm", 50]], 2, 2.5),
    sharing("dm+ed+cpdm+ddm at ipc 10", [["dm", 10], ["ed", 10], ["cpdm", 10], ["ddm", 10]], 2, 2.5),
    gradients(1, 3, 3.5),
    gradients(10, 3, 3.5, inner=10),  # a fifth of its epochs, which take most of the time
    Row(
        "training epoch, ipc 10", ("ReferenceEpoch", {"ipc": 10}), ("OurEpoch", {"ipc": 10}), 2.5, 3, steps=5
    ),
    Row("training epoch, ipc 50", ("ReferenceEpoch", {"ipc": 50}), ("OurEpoch", {"ipc": 50}), 4, 5),
    *(epochs(arch, 2, 2.5) for arch in ("resnet18", "vgg11", "alexnet", "vit")),
    observed("SRe2L step", "Synthesis", 2, 3),
    observed("epoch of SRe2L's student", "Student", 2, 3),
    Row("test pass, 10,000 images", ("ReferencePass", {}), ("OurPass", {}), 5, 6, split="test"),
]


class Worker:
    """A process that measures. `settled` keeps freed memory, as the project's own command does; the
    reference's does not."""

    def __init__(self, data, threads, settled, kernels):
        environment = os.environ | {
            "BENCH_THREADS": str(threads),
            "BENCH_SETTLED": str(int(settled)),
            "OMP_NUM_THREADS": str(threads),
            "BENCH_DEVICE": DEVICE,
        }
        environment |= {"CONDENSE_KERNELS": "on" if kernels else "off"} | (
            {"BENCH_DATA": str(data)} if data else {}
        )
        command = [sys.executable, str(HERE / "worker.py")]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the worker stopped with status {self.process.wait()} at {request}")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# Which allocator and kernels a process has: the reference's are as they come, or with freed memory kept.
KINDS = {"reference": (False, False), "settled": (True, False), "ours": (True, True)}
if DEVICE != "cpu":
    del KINDS["settled"]  # the allocator of the host is not what takes time there


def compared(row, start, rounds):
    """The row's numbers: `rounds` alternations after two iterations of warming up, in processes of its own.

    Not those of the row before: the allocator of a process learns from what it has done, and is then half
    settled.
    """
    kinds = dict.fromkeys(KINDS, (True, True)) if row.against_ours else KINDS
    workers = {name: start(*kind) for name, kind in kinds.items()}
    try:
        return measured(row, workers, rounds)
    finally:
        for worker in workers.values():
            worker.close()


def measured(row, workers, rounds):
    """As `compared`, with these processes."""
    for name in workers:
        task, settings = row.ours if name == "ours" else row.reference
        workers[name].ask(task=task, settings=settings, split=row.split)
        warm = workers[name].ask(steps=2)
        if name == "ours":
            memory = warm["peak_memory_bytes"]
    times = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            answer = worker.ask(steps=row.steps)
            times[name].append(answer["seconds"])
    ratios = [reference / ours for reference, ours in zip(times["reference"], times["ours"], strict=True)]
    settled = [
        reference / ours
        for reference, ours in zip(times.get("settled", times["reference"]), times["ours"], strict=True)
    ]
    found = {
        "row": row.title,
        "reference_s": statistics.median(times["reference"]),
        "settled_s": statistics.median(times.get("settled", times["reference"])),
        "ours_s": statistics.median(times["ours"]),
        "ratio": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "ratio_settled": statistics.median(settled),
        "least": row.least,
        "aim": row.aim,
        "in_ms": row.in_ms,
        "peak_memory_bytes": answer["peak_memory_bytes"],
        "memory_growth_bytes": answer["peak_memory_bytes"] - memory,
        "switched": answer["switched"],
    }
    if row.gradient:
        found["gradient"] = workers["ours"].ask(gradient=row.gradient)
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in found.items()}


def line_of(found):
    low, high = found["ratio_range"]
    reached = -1000 * found["ours_s"] if found["in_ms"] else found["ratio"]
    least, aim = (-found[name] if found["in_ms"] else found[name] for name in ("least", "aim"))
    verdict = "aim" if reached >= aim else "must" if reached >= least else "BELOW"
    error = found.get("gradient")
    error = (
        f"  gradient off by {100 * error['relative']:.2f} %, cosine {error['cosine']:.5f}" if error else ""
    )
    times = f"{1000 * found['reference_s']:7.4g} ms {1000 * found['ours_s']:6.4g} ms"
    ratios = f"{found['ratio']:5.2f}x ({low:.2f}-{high:.2f}), {found['ratio_settled']:.2f}x settled"
    grown = (
        f"  memory +{found['memory_growth_bytes'] / 2**20:.0f} of {found['peak_memory_bytes'] / 2**20:.0f} MB"
    )
    asked = f"{found['least']:g} / {found['aim']:g}{' ms' if found['in_ms'] else ''}"
    return f"{found['row']:52} {times}  {ratios}  [{asked}: {verdict}]{error}{grown}"


def main():
    """Parses, measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="", help="only rows whose title contains this")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", type=Path, help="folder of prepared images, as results/data/cifar10")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--accuracy", action="store_true", help="also the accuracies after equal time: half an hour more"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    data = args.data.resolve() if args.data else None
    if args.accuracy and not data:
        parser.error("--accuracy needs real images: --data results/data/cifar10/KEY")
    torch.set_num_threads(args.threads)
    device = cpu_name() if DEVICE == "cpu" else torch.cuda.get_device_name()
    facts = {
        "device": device,
        "threads": args.threads,
        "date": datetime.now(UTC).date().isoformat(),
        "code_version": code_version(),
    }
    facts |= {
        "torch": str(torch.__version__),
        "kernels": state(),
        "images": str(args.data or "noise"),
        "load": os.getloadavg()[0],
    }
    facts["limits"] = limits.measured(DEVICE)
    print(json.dumps(facts, indent=1))
    start = partial(Worker, data, args.threads)
    rows = []
    for row in CPU_ROWS if DEVICE == "cpu" else GPU_ROWS:
        if args.rows in row.title:
            rows.append(compared(row, start, args.rounds))
            print(line_of(rows[-1]), flush=True)
    found = {"schema": 1, "kind": "benchmark", **facts, "rows": rows}
    if args.accuracy:
        found["accuracy"] = compared_accuracies(
            {name: start(*kind) for name, kind in {**KINDS, "separate": (True, True)}.items()}
        )
    write_json(args.out, found)
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
