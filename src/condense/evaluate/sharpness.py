"""How sharply the loss of a set rises around its images, over the steps of a condensation.

Source: edc, section 3.1 and Figure 2c (above): the Frobenius norm of the Hessian of the loss with respect to
the images, over the iterations of the synthesis. The paper's loss is that of its own synthesis, which other
methods do not have. Here it is, for all methods alike, the mean loss of the set, as the protocol names it, of
networks that are trained on all real images, as observers are; images are normalised, as networks see them,
and decoded where a set stores several in one. For random v of which each number is 1 or -1 the mean of |Hv|^2
is |H|^2 (Hutchinson 1990), so the norm is the root of its mean over some v. These are the same at every
snapshot, so that a curve moves by the images alone. Networks are in eval mode: no image sees another, and
products are taken for some images at a time.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from condense import kernels
from condense.evaluate.trained import TrainedNetworks
from condense.evaluate.trainer import Results, TaskSets, Trainer
from condense.machine import seeds
from condense.specs.tasks.sharpness import Sharpness
from condense.training.losses import Loss
from condense.training.memory import in_smaller_batches
from condense.training.observers import compared_with
from condense.training.sets import TrainingSet

_BATCH = {"cpu": 64, "cuda": 512}  # images whose products are taken at once, at most


def sharpness(task: Sharpness, sets: TaskSets, tested: TrainingSet, trainer: Trainer) -> Results:
    """The norms and losses of every network at every snapshot. Raises UserError if the protocol's loss needs
    soft labels that the set does not have."""
    by_step = sets.judged.by_step
    # At every step a metric of its own while it is measured, since one training serves all steps
    metrics = {f"{name}{step}": metric for name, metric in task.metrics.items() for step in by_step}

    def measure(networks: TrainedNetworks) -> dict[str, list[float]]:
        networks.network.eval()
        values: dict[str, list[float]] = {}
        for step, ready in by_step.items():
            images = ready()
            compared = compared_with(trainer.protocol, images, trainer.labeller)
            of_step = measured_sharpness(networks, images, *compared, task.probes, trainer.seed)
            values |= {f"{name}{step}": given.tolist() for name, given in of_step.items()}
        return values

    measured = replace(trainer, metrics=metrics).measured({0: sets.training_images}, measure)
    return {name: {step: measured[f"{name}{step}"][0] for step in by_step} for name in task.metrics}


def measured_sharpness(
    networks: TrainedNetworks, images: TrainingSet, loss: Loss, wanted: Tensor | None, probes: int, seed: int
) -> dict[str, Tensor]:
    """`sharpness` and `loss` (K,) of each network in float64; the probes come from the stream ("sharpness",
    "probe", number). Fewer images go through at a time where the memory of the device does not suffice."""
    batch = _BATCH["cuda" if images.labels.device.type == "cuda" else "cpu"]
    return in_smaller_batches(partial(_measured, networks, images, loss, wanted, probes, seed), batch)


def _measured(
    networks: TrainedNetworks,
    images: TrainingSet,
    loss: Loss,
    wanted: Tensor | None,
    probes: int,
    seed: int,
    batch: int,
) -> dict[str, Tensor]:
    generators = [seeds.generator(seed, "sharpness", "probe", number) for number in range(probes)]
    squares = torch.zeros(networks.count, probes, dtype=torch.float64)
    total = torch.zeros(networks.count, dtype=torch.float64)
    for indices in torch.arange(len(images)).split(batch):
        rows, x = indices.to(images.labels.device), images.fetch(indices).requires_grad_()
        labels = images.labels[rows].expand(networks.count, -1)
        vectors = None if wanted is None else wanted[rows].expand(networks.count, -1, -1)
        # Torch's own operations have gradients of gradients by the images
        with kernels.plain():
            logits = networks.network(x)
            logits = logits if logits.dim() == 3 else logits[None]
            losses = len(indices) * loss.of_networks(logits, labels, vectors)
            signs = [2.0 * torch.randint(2, x.shape, generator=one).to(x) - 1 for one in generators]
            for network, of_network in enumerate(losses):
                (slope,) = torch.autograd.grad(of_network, x, create_graph=True)
                for number, sign in enumerate(signs):
                    (product,) = torch.autograd.grad(slope, x, sign, retain_graph=True)
                    squares[network, number] += product.double().square().sum().cpu()
        total += losses.detach().double().cpu()
    return {"sharpness": squares.mean(1).sqrt() / len(images), "loss": total / len(images)}
