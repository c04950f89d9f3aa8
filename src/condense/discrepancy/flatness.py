"""How flat the loss lies around synthetic images: how little an observer's logits differ between them and
their running mean; and how their spectrum within a class is spread."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

GRAM_SIZE = 32  # pixels a side to which larger images are averaged before they are multiplied


def logit_flatness(logits: Tensor, of_mean: Tensor, temperature: float) -> Tensor:
    """KL(softmax(of_mean / t) || softmax(logits / t)), mean over images and classes: (n, k), (n, k) -> ().

    Source: EDC (2024), eq. (7), as its authors' code: the paper writes the two the other way round, and no
    mean.
    """
    found, wanted = (F.log_softmax(values / temperature, dim=1) for values in (logits, of_mean))
    return F.kl_div(found, wanted, log_target=True, reduction="sum") / logits.numel()


def spectral_spread(images: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """The sum over classes of KL(softmax(s / t) || softmax(s)), s the eigenvalues of the products of the
    class's images with each other: (n, c, h, w), (n,) -> (). The first softmax is what is aimed at.

    It falls as the images of a class become more unlike each other. Source: G-VBSM (Shao et al. 2023),
    section 3.1, as its authors' code.
    """
    if max(images.shape[2:]) > GRAM_SIZE:
        images = F.adaptive_avg_pool2d(images, GRAM_SIZE)
    flat, total = images.flatten(1), images.new_zeros(())
    for label in labels.unique():
        some = flat[labels == label]
        spectrum = torch.linalg.eigvalsh(some @ some.T)
        aim = F.log_softmax(spectrum.detach() / temperature, dim=0)
        total = total + F.kl_div(F.log_softmax(spectrum, dim=0), aim, log_target=True, reduction="sum")
    return total
