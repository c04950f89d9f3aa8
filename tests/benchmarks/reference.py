"""The loops of the literature's code, written plainly: what the fast engine is measured against.

Class by class, float32, torch's own operations on contiguous images, the allocator as it is. Nothing of the engines is used; networks
and augmentation are the project's, which without kernels are the same torch operations.
"""

import numpy as np
import torch
import torch.nn.functional as F

from condense.augment import siamese

STRATEGY = "color_crop_cutout_flip_scale_rotate"


def matching_step(network, images_all, indices_class, synthetic, optimizer, draws, batch, rng):
    """One iteration of distribution matching: a mean of real and of synthetic embeddings a class, one step of all images.

    images_all (N, ...) float32, synthetic (C, M, ...) with gradient. `network` was drawn anew by the caller.
    """
    loss = torch.tensor(0.0)
    for label, drawn in enumerate(draws):
        chosen = rng.permutation(indices_class[label])[:batch]
        real = siamese.apply(images_all[chosen], drawn)
        made = siamese.apply(synthetic[label], drawn)
        real_embedding = network.embed(real).detach()
        synthetic_embedding = network.embed(made)
        loss = loss + torch.sum((torch.mean(real_embedding, dim=0) - torch.mean(synthetic_embedding, dim=0)) ** 2)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def training_epoch(network, optimizer, images, labels, batch, generator):
    """One epoch of training a network on a synthetic set (n, ...) with one operation a batch, parameters an image."""
    network.train()
    for chosen in torch.randperm(len(images), generator=generator).split(batch):
        drawn = siamese.draw_each(STRATEGY, images.shape[-1], len(chosen), generator)
        logits = network(siamese.apply(images[chosen], drawn))
        loss = F.cross_entropy(logits, labels[chosen])
        np.equal(logits.detach().argmax(1).numpy(), labels[chosen].numpy()).sum()  # the running accuracy that such code keeps
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def test_pass(network, images, labels, batch=256):
    """Percentage of images (n, ...) float32 that are classified rightly."""
    network.eval()
    right = 0
    for start in range(0, len(images), batch):
        logits = network(images[start : start + batch])
        right += (logits.argmax(1) == labels[start : start + batch]).sum().item()
    return 100 * right / len(images)
