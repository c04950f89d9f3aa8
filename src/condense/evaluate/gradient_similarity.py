"""How far the gradient of a batch of a set points where that of all real training images does.

Source: edc, section 3.2 and Figure 2c (below): of a ResNet-18 with random parameters, the cosine between the
gradient of a random batch and the global gradient of the original training set, which is accumulated batch by
batch; over 100 draws, of original and of condensed images. What the paper leaves open is read so: every draw
has a network of its own; the gradient is that of the mean loss with respect to all parameters as one vector;
images are not augmented; batch norm uses the statistics of each batch, as in training, and the global
gradient is the mean over all real images in batches of the same size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.augment.cutmix import Mixture
from condense.config import UserError
from condense.evaluate.trainer import Results, TaskSets, Trainer
from condense.evaluate.untrained import measured_untrained
from condense.kernels.precision import computed_in
from condense.machine import seeds
from condense.specs.tasks.gradient_similarity import GradientSimilarity
from condense.training.loop import layer_type
from condense.training.losses import loss_of
from condense.training.sets import TrainingSet

LossOfBatch = Callable[
    [Tensor, Tensor], Tensor
]  # logits (b, k) and indices (b,) of a batch -> its mean loss ()


def gradient_similarity(
    task: GradientSimilarity, sets: TaskSets, tested: TrainingSet, trainer: Trainer
) -> Results:
    """The cosines of each network. Raises UserError for a batch that is larger than the set or than the real
    training set, and for a gradient that is 0, which has no direction."""
    made, real = sets.judged.by_step[0](), sets.training_images()
    for images in (made, real):
        if task.batch > len(images):
            raise UserError(
                f"batch: {task.batch} images are asked for, and {images.name} has {len(images)}: give a "
                "batch of at most that many"
            )
    loss, wanted = loss_of(trainer.protocol, made)

    def of_set(logits: Tensor, rows: Tensor) -> Tensor:
        vectors = None if wanted is None else wanted[rows]
        return loss.of_batch(logits, made.labels[rows], vectors, Mixture())

    def of_real(logits: Tensor, rows: Tensor) -> Tensor:
        return F.cross_entropy(logits, real.labels[rows])

    def measure(number: int, network: nn.Module) -> dict[str, float]:
        stream = partial(seeds.generator, trainer.seed, "gradient-similarity", number)
        dtype = layer_type(network, trainer.protocol, trainer.device)
        network.train()
        # Layers that draw take no generator of their own
        torch.manual_seed(seeds.stream(trainer.seed, "gradient-similarity", number, "dropout"))

        def drawn(images: TrainingSet, side: str) -> Tensor:
            return torch.randperm(len(images), generator=stream(side))

        order = drawn(real, "order")
        whole = torch.zeros((), dtype=torch.float64, device=trainer.device)
        for rows in order.tensor_split(math.ceil(len(order) / task.batch)):
            whole = whole + len(rows) / len(order) * gradient(network, real, rows, of_real, dtype).double()
        of_made = gradient(network, made, drawn(made, "set")[: task.batch], of_set, dtype)
        beside = gradient(network, real, drawn(real, "real")[: task.batch], of_real, dtype)
        return {"similarity": cosine(of_made, whole), "real_similarity": cosine(beside, whole)}

    return measured_untrained(trainer, measure, "gradients")


def gradient(
    network: nn.Module,
    images: TrainingSet,
    indices: Tensor,
    loss: LossOfBatch,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The gradient (p,) of the loss of the images at `indices` (b,) with respect to all parameters of a
    network, one after the other; layers are computed in `dtype`."""
    rows = indices.to(images.labels.device)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with computed_in(dtype, rows.device):
        logits = network(images.fetch(indices))
    value = loss(logits, rows)
    return torch.cat([part.flatten() for part in torch.autograd.grad(value, parameters)])


def cosine(first: Tensor, second: Tensor) -> float:
    """Of two vectors (p,), in float64. Raises UserError where one is 0."""
    first, second = first.double(), second.double()
    size = (first.norm() * second.norm()).item()
    if not size:
        raise UserError(
            "the gradient of a network that is not trained is 0, which has no direction: choose another "
            "architecture"
        )
    return max(-1.0, min(1.0, (first @ second).item() / size))
