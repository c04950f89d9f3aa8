"""What a worker process of the benchmark does: one iteration at a time, by the reference loop or by the
project's engine."""

import os
from dataclasses import asdict, replace

import numpy as np
import reference
import torch

from condense import kernels, models
from condense.augment import siamese
from condense.config import merged, read
from condense.data.dataset import Images, load
from condense.discrepancy.gradients import gradient_distance
from condense.engines.gradient import GradientMatching
from condense.engines.matching import Matching
from condense.engines.orders import Site
from condense.engines.starts import initial_images
from condense.engines.streams import RealStream
from condense.evaluate.protocols import evaluate
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.machine.graphs import recorder_for
from condense.specs import Optimizer, Protocol, Recipe, catalogue
from condense.training.class_gradients import class_gradients, gradient_discrepancy
from condense.training.loop import accuracy, layer_type, train
from condense.training.optimizers import SGD
from condense.training.sets import pixel_set, tensor_set

ARCH = {"arch": "convnet", "options": {}}
SEED = 0
DEVICE = torch.device(os.environ.get("BENCH_DEVICE", "cpu"))


def images_of(path: str | None, split: str) -> Images:
    """A prepared split, or noise in the shape of CIFAR-10, which takes as long."""
    return (
        load(f"{path}/{split}.safetensors", verify=False)
        if path
        else noise(split, 5000 if split == "train" else 1000)
    )


def noise(split: str, count: int) -> Images:
    """`count` images of each of ten classes."""
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (10 * count, 3, 32, 32), dtype=torch.uint8, generator=rng)
    return Images(
        dataset="noise",
        split=split,
        images=pixels,
        labels=torch.arange(10).repeat_interleave(count),
        classes=tuple(range(10)),
        class_names=tuple(map(str, range(10))),
        counts=(count,) * 10,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        channels=3,
        size=32,
        data_sha256="",
    )


def recipe_for(name, **changes) -> Recipe:
    changes = {"steps": 10**6, "optimizer": {"lr": 1.0}} | changes
    return catalogue.resolve(
        catalogue.recipe(name), "cifar10", reference.STRATEGY, 10, [("benchmark", changes)]
    )


def new_network(data: Images, arch="convnet"):
    return models.build(arch, channels=3, size=32, classes=len(data.counts)).to(DEVICE)


class ReferenceMatching:
    """Distribution matching, class by class."""

    def __init__(self, data, ipc=10, batch=256):
        self.images = data.normalise(data.images.to(DEVICE))
        self.indices = [
            np.arange(data.class_slice(label).start, data.class_slice(label).stop) for label in data.classes
        ]
        self.synthetic = initial_images(data, data.classes, ipc, "real", SEED).to(DEVICE).requires_grad_(True)
        self.optimizer = torch.optim.SGD([self.synthetic], lr=1.0, momentum=0.5)
        self.data, self.batch, self.rng, self.done = data, batch, np.random.default_rng(0), 0

    def step(self):
        network = new_network(self.data).requires_grad_(False)
        draws = [
            siamese.draw(reference.STRATEGY, 32, seeds.generator(SEED, "augment", label, self.done))
            for label in self.data.classes
        ]
        arguments = (
            network,
            self.images,
            self.indices,
            self.synthetic,
            self.optimizer,
            draws,
            self.batch,
            self.rng,
        )
        reference.matching_step(*arguments)
        self.done += 1

    def result(self):
        return self.synthetic.detach().cpu()


class ReferenceGradients:
    """Gradient matching, class by class: one step of the images and the epochs of training the network on
    them that follow it.

    `method` is 'dc', from noise and without augmentation, or 'dsa', from real images. `inner`: epochs, by
    default those of the loops.
    """

    def __init__(self, data, ipc=10, method="dsa", batch=256, inner=None):
        self.images = data.normalise(data.images.to(DEVICE))
        self.indices = [
            np.arange(data.class_slice(label).start, data.class_slice(label).stop) for label in data.classes
        ]
        start, self.strategy = {"dc": ("noise", "none"), "dsa": ("real", reference.STRATEGY)}[method]
        self.synthetic = initial_images(data, data.classes, ipc, start, SEED).to(DEVICE).requires_grad_(True)
        self.optimizer = torch.optim.SGD([self.synthetic], lr=0.1, momentum=0.5)
        self.outer, epochs = reference.LOOPS[ipc]
        self.inner, self.labels = epochs if inner is None else inner, labels_for(ipc)
        self.data, self.batch, self.rng, self.done = data, batch, np.random.default_rng(0), 0
        self.generator = torch.Generator().manual_seed(0)

    def step(self):
        place = self.done % self.outer
        if place == 0:
            self.network = new_network(self.data).train()
            self.trained = torch.optim.SGD(self.network.parameters(), lr=0.01)
        draws = [
            siamese.draw(self.strategy, 32, seeds.generator(SEED, "augment", label, self.done))
            for label in self.data.classes
        ]
        arguments = (
            self.network,
            self.images,
            self.indices,
            self.synthetic,
            self.optimizer,
            draws,
            self.batch,
            self.rng,
        )
        reference.gradient_step(*arguments)
        for _ in range(self.inner if place + 1 < self.outer else 0):
            images = self.synthetic.detach().flatten(0, 1)
            reference.training_epoch(
                self.network, self.trained, images, self.labels, 256, self.generator, self.strategy
            )
        self.done += 1

    def result(self):
        return self.synthetic.detach().cpu()


class OurMatching:
    """Sets (method, ipc) in one pass over a shared real side, as a job of the workflow does it."""

    def __init__(self, data, sets=(("dm", 10),), batch=256, precision="mixed", changes=None):
        made = [
            (recipe_for(name, batch_real=batch, precision=precision, **changes or {}), ipc)
            for name, ipc in sets
        ]
        self.stream = RealStream(
            made[0][0], data, data.classes, **ARCH, seed=SEED, device=DEVICE, recorder=recorder_for(DEVICE)
        )
        critic = new_network(data).requires_grad_(False).eval()
        self.sets = [
            Matching(recipe, self.stream, ipc=ipc, critic=critic, checkpoint=Checkpoint(None, ""))
            for recipe, ipc in made
        ]
        self.done = 0

    def step(self):
        side = self.stream.at(self.done)
        for one in self.sets:
            one.advance(side)
        self.done += 1

    def result(self):
        return self.sets[0].images.detach().cpu()


class OurGradients:
    """The same as `ReferenceGradients` by the project's engine."""

    def __init__(self, data, ipc=10, method="dsa", batch=256, inner=None):
        loop = {
            "outer": reference.LOOPS[ipc][0],
            "inner": reference.LOOPS[ipc][1] if inner is None else inner,
        }
        recipe = catalogue.recipe(method)
        change = {"steps": 10**4, "batch_real": batch, "loop": loop}
        recipe = catalogue.resolve(recipe, "cifar10", reference.STRATEGY, ipc, [("benchmark", change)])
        site = Site(data, tuple(data.classes), ARCH["arch"], ARCH["options"], SEED, DEVICE)
        self.run = GradientMatching(recipe, site, ipc=ipc, checkpoint=Checkpoint(None, ""))

    def step(self):
        self.run.advance(None)

    def result(self):
        return self.run.images.detach().cpu()


class Separate:
    """The same sets, each in a pass of its own."""

    def __init__(self, data, sets, **settings):
        self.runs = [OurMatching(data, (one,), **settings) for one in sets]

    def step(self):
        for run in self.runs:
            run.step()


def protocol_of(base="dc", **changes) -> Protocol:
    return read(Protocol, merged(asdict(catalogue.protocol(base)), changes), "benchmark")


def labels_for(ipc):
    return torch.arange(10).repeat_interleave(ipc).to(DEVICE)


def start_of(data, ipc):
    """Real images (10 ipc, ...) to begin with."""
    return initial_images(data, data.classes, ipc, "real", SEED).flatten(0, 1).to(DEVICE)


class ReferenceEpoch:
    def __init__(self, data, ipc=10, arch="convnet"):
        self.images = start_of(data, ipc)
        self.network, self.labels = new_network(data, arch), labels_for(ipc)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        self.generator = torch.Generator().manual_seed(0)

    def step(self):
        reference.training_epoch(self.network, self.optimizer, self.images, self.labels, 256, self.generator)


class OurEpoch:
    def __init__(self, data, ipc=10, precision="mixed", arch="convnet"):
        self.images = tensor_set(start_of(data, ipc), labels_for(ipc))
        self.protocol = protocol_of(epochs=1, schedule={"kind": "constant"}, precision=precision)
        self.network, self.done = new_network(data, arch), 0

    def step(self):
        settings = {"strategy": reference.STRATEGY, "seed": self.done, "name": ("benchmark",)}
        train(self.network, self.images, self.protocol, **settings, checkpoint=Checkpoint(None, ""))
        self.done += 1


class ReferenceNetworks:
    """Many networks on a set of `ipc` images a class, one after the other."""

    def __init__(self, data, ipc=10, networks=20, epochs=100):
        self.data, self.ipc, self.networks, self.epochs = data, ipc, networks, epochs

    def step(self):
        for _ in range(self.networks):
            run = ReferenceEpoch(self.data, self.ipc)
            for _ in range(self.epochs):
                run.step()


class OurNetworks(ReferenceNetworks):
    def step(self):
        images = tensor_set(start_of(self.data, self.ipc), labels_for(self.ipc))
        settings = {
            "arch": "convnet",
            "options": {},
            "strategy": reference.STRATEGY,
            "seed": SEED,
            "checkpoint": Checkpoint(None, ""),
        }
        # Testing is another row's
        few = replace(self.data, images=self.data.images[:10], labels=self.data.labels[:10])
        evaluate(
            images,
            few,
            protocol_of(epochs=self.epochs),
            **settings,
            networks=range(self.networks),
            device=DEVICE,
        )


class ReferencePass:
    def __init__(self, data):
        self.images, self.labels, self.network = (
            data.normalise(data.images.to(DEVICE)),
            data.labels.to(DEVICE),
            new_network(data),
        )

    def step(self):
        reference.test_pass(self.network, self.images, self.labels)


class OurPass:
    def __init__(self, data, precision="mixed"):
        self.images, self.network = pixel_set(data, DEVICE), new_network(data)
        self.dtype = layer_type(self.network, protocol_of(precision=precision), DEVICE)

    def step(self):
        accuracy(self.network, self.images, self.dtype)


KINDS = (ReferenceMatching, ReferenceGradients, OurMatching, OurGradients, Separate)
KINDS += (ReferenceEpoch, OurEpoch, ReferenceNetworks, OurNetworks, ReferencePass, OurPass)
TASKS = {task.__name__: task for task in KINDS}


def gradient_error(data, ipc, batch, precision):
    """Relative L2 error and cosine of one DM gradient against the reference's, for the same network, batches
    and augmentation."""
    recipe = recipe_for("dm", batch_real=batch, precision=precision)
    stream = RealStream(
        recipe, data, data.classes, **ARCH, seed=SEED, device=DEVICE, recorder=recorder_for(DEVICE)
    )
    ours = Matching(recipe, stream, ipc=ipc, critic=None, checkpoint=Checkpoint(None, ""))
    plain = ours.images.clone().requires_grad_(True)
    # The gradient is wanted, not the step
    ours.optimizer = SGD([ours.values], Optimizer(lr=1e-30, momentum=0.0))
    for step in range(3):  # on a GPU the third is a replay
        side = stream.at(step)
        ours.advance(side)
    stream.close()
    draws = [
        siamese.draw(reference.STRATEGY, 32, seeds.generator(SEED, "augment", label, step))
        for label in data.classes
    ]
    with kernels.plain():
        total = 0.0
        for place, drawn in enumerate(draws):
            real = side.network.embed(siamese.apply(data.normalise(side.pixels[place]), drawn)).detach()
            total = (
                total
                + (real.mean(0) - side.network.embed(siamese.apply(plain[place], drawn)).mean(0))
                .square()
                .sum()
            )
        total.backward()
    return compared(ours.values.grad, plain.grad)


def class_gradient_error(data, ipc, batch, method):
    """The same of the images in gradient matching: by the project's class gradients, against the first step
    of the plain loop."""
    loop = ReferenceGradients(data, ipc, method, batch)
    images, strategy = loop.synthetic.detach().clone().requires_grad_(True), loop.strategy
    with kernels.plain():
        loop.inner = 0
        loop.step()
    network, rng, labels = loop.network, np.random.default_rng(0), torch.tensor(data.classes)[:, None]
    distance = gradient_distance("layerwise_cosine")
    parameters = distance.counted(list(network.parameters()))
    draws = [siamese.draw(strategy, 32, seeds.generator(SEED, "augment", label, 0)) for label in data.classes]
    real = torch.stack([loop.images[rng.permutation(indices)[:batch]] for indices in loop.indices])
    seen = siamese.apply_each_class(real, draws)
    wanted = class_gradients(network, seen, labels.expand(-1, seen.shape[1]), parameters)
    made = siamese.apply_each_class(images, draws)
    gradient_discrepancy(network, wanted, made, labels.expand(-1, ipc), parameters, distance).sum().backward()
    return compared(images.grad, loop.synthetic.grad)


def compared(found, wanted):
    """Relative L2 error and cosine of a gradient."""
    found, wanted = found.double().flatten(), wanted.double().flatten()
    return {
        "relative": ((found - wanted).norm() / wanted.norm()).item(),
        "cosine": (torch.dot(found, wanted) / found.norm() / wanted.norm()).item(),
    }


def augmentation_error():
    """Greatest difference between the augmentation of a batch and that of its images one by one with their
    parameters repeated."""
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    worst = 0.0
    for place in range(60):
        drawn = siamese.draw(reference.STRATEGY, 32, seeds.generator(place, "check"))
        each = siamese.Draw(
            drawn.operation, {name: value.expand(8) for name, value in drawn.parameters.items()}
        )
        worst = max(worst, (siamese.apply(images, drawn) - siamese.apply(images, each)).abs().max().item())
    return worst


def judge(images, test, networks, epochs):
    """Accuracies of networks trained on normalised images (C, ipc, ...), all alike whoever made them."""
    labels = torch.arange(len(images)).repeat_interleave(images.shape[1])
    settings = {
        "arch": "convnet",
        "options": {},
        "strategy": reference.STRATEGY,
        "seed": SEED,
        "checkpoint": Checkpoint(None, ""),
    }
    made = tensor_set(images.flatten(0, 1).to(DEVICE), labels.to(DEVICE))
    return evaluate(
        made, test, protocol_of(epochs=epochs), **settings, networks=range(networks), device=DEVICE
    )
