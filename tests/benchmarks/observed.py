"""Tasks of the benchmark in which a trained ResNet-18 looks at the images: their synthesis, and students
under its logits; with those of `tasks`."""

import numpy as np
import reference
import tasks
import torch
from tasks import DEVICE, SEED, labels_for, new_network, start_of
from torch import nn

from condense.engines import statistics
from condense.engines.observers import Observer
from condense.engines.orders import Order, Site
from condense.files.checkpoints import Checkpoint
from condense.specs import catalogue
from condense.training.loop import layer_type, train
from condense.training.observers import Observers
from condense.training.sets import tensor_set

ARCH = "resnet18_bn"


def observer_of(data):
    """A ResNet-18 in eval mode; how well it was trained changes no time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = new_network(data, ARCH)
    return network.requires_grad_(False).eval()


class ReferenceSynthesis:
    """SRe2L's images of CIFAR's size: a step of every batch of one image of each class."""

    def __init__(self, data, ipc=10):
        rng = torch.Generator().manual_seed(0)
        self.network = observer_of(data)
        norms = [layer for layer in self.network.modules() if isinstance(layer, nn.BatchNorm2d)]
        self.hooks = [reference.BatchNormHook(layer) for layer in norms]
        self.labels = torch.arange(len(data.counts))
        shape = (len(data.counts), data.channels, data.size, data.size)
        self.batches = [torch.randn(shape, generator=rng).requires_grad_(True) for _ in range(ipc)]
        self.optimizers = [torch.optim.Adam([batch], lr=0.25, betas=(0.5, 0.9)) for batch in self.batches]
        self.generator = rng

    def step(self):
        for batch, optimizer in zip(self.batches, self.optimizers, strict=True):
            roll = torch.randint(-4, 5, (2,), generator=self.generator).tolist()
            reference.statistics_step(self.network, self.hooks, batch, self.labels, optimizer, roll)


class OurSynthesis:
    def __init__(self, data, ipc=10):
        recipe = catalogue.resolve(catalogue.recipe("sre2l"), "cifar10", reference.STRATEGY, ipc, [])
        observer = Observer(observer_of(data), "observer", recipe.statistics)
        site = Site(data, tuple(data.classes), ARCH, {}, SEED, DEVICE)
        found, statistics.observers_of = statistics.observers_of, lambda site, order: [observer]
        try:
            order = Order(recipe, ipc, {}, Checkpoint(None, ""))
            self.run = statistics.StatisticsMatching(site, order)
        finally:
            statistics.observers_of = found

    def step(self):
        self.run.advance(None)


class ReferenceStudent:
    """An epoch of SRe2L's student on a set of `ipc` images a class, both networks a ResNet-18."""

    def __init__(self, data, ipc=10):
        self.images, self.teacher, self.student = (
            start_of(data, ipc),
            observer_of(data),
            new_network(data, ARCH),
        )
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=0.001, weight_decay=0.01)
        self.generator, self.rng = torch.Generator().manual_seed(0), np.random.default_rng(0)

    def step(self):
        reference.distilled_epoch(
            self.student, self.teacher, self.optimizer, self.images, 128, self.generator, self.rng
        )


class OurStudent:
    def __init__(self, data, ipc=10):
        self.images = tensor_set(start_of(data, ipc), labels_for(ipc))
        self.protocol = tasks.protocol_of(base="sre2l", epochs=1, schedule={"kind": "constant"})
        teacher, self.student, self.done = observer_of(data), new_network(data, ARCH), 0
        self.observers = Observers([teacher], [layer_type(teacher, self.protocol, DEVICE)])

    def step(self):
        train(
            self.student,
            self.images,
            self.protocol,
            strategy=reference.STRATEGY,
            seed=self.done,
            name=("benchmark",),
            checkpoint=Checkpoint(None, ""),
            labeller=self.observers,
        )
        self.done += 1


KINDS = (ReferenceSynthesis, OurSynthesis, ReferenceStudent, OurStudent)
TASKS = tasks.TASKS | {task.__name__: task for task in KINDS}
