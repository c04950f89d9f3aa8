"""What the tests of queues and banks of networks share: a small queue, and its bank."""

import torch

from condense import specs
from condense.networks import bank as banks
from condense.networks.making import Making

ARCH = {"arch": "convnet", "options": {"depth": 1, "width": 4}}
CPU = torch.device("cpu")
STEPS = 50
SMALL = specs.QueueNetworks(
    "queue", start=2, push_every=7, largest=5, train_steps=2, batch=16, accuracy_over=20
)


def make(path, data, max_bytes=10**9, settings=SMALL, arch=ARCH, **changes):
    asked = {"seed": 3, "key": "k", "device": CPU, **arch} | changes
    steps = asked.pop("steps", STEPS)
    banks.make_queue_bank(Making(path, data, **asked), settings, steps, max_bytes)
    return path


def opened(path, data, settings=SMALL, seed=3, arch=ARCH):
    return banks.open_queue_bank(path, data, settings, **arch, seed=seed, device=CPU)
