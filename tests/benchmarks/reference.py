"""The loops of the literature's code, written plainly: what the fast engine is measured against.

Class by class, float32, torch's own operations on contiguous images, the allocator as it is. Nothing of the
engines is used; networks and augmentation are the project's, which without kernels are the same torch
operations.
"""

import numpy as np
import torch
import torch.nn.functional as F

from condense.augment import siamese

STRATEGY = "color_crop_cutout_flip_scale_rotate"
# By images a class: how often the images of an iteration, which has a network of its own, are stepped, and
# the epochs of training the network on them between two steps.
LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


def matching_step(network, images_all, indices_class, synthetic, optimizer, draws, batch, rng):
    """One iteration of distribution matching: a mean of real and of synthetic embeddings a class, one step of
    all images.

    images_all (N, ...) float32, synthetic (C, M, ...) with gradient. `network` was drawn anew by the caller.
    """
    loss = torch.tensor(0.0)
    for label, drawn in enumerate(draws):
        chosen = rng.permutation(indices_class[label])[:batch]
        real = siamese.apply(images_all[chosen], drawn)
        made = siamese.apply(synthetic[label], drawn)
        real_embedding = network.embed(real).detach()
        synthetic_embedding = network.embed(made)
        loss = loss + torch.sum(
            (torch.mean(real_embedding, dim=0) - torch.mean(synthetic_embedding, dim=0)) ** 2
        )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def gradient_distance(made, wanted):
    """Sum over the rows of all tensors but vectors of 1 - cosine: two gradients, one tensor a parameter."""
    total = torch.tensor(0.0)
    for one, other in zip(made, wanted, strict=True):
        if one.dim() == 1:
            continue
        one, other = one.reshape(one.shape[0], -1), other.reshape(one.shape[0], -1)
        product = torch.norm(one, dim=-1) * torch.norm(other, dim=-1) + 1e-6
        total = total + torch.sum(1 - torch.sum(one * other, dim=-1) / product)
    return total


def gradient_step(network, images_all, indices_class, synthetic, optimizer, draws, batch, rng):
    """One step of all images towards equal gradients of the network's loss on real and on synthetic images of
    each class.

    images_all (N, ...) float32, synthetic (C, M, ...) with gradient; a draw of the augmentation for each
    class, for DC of 'none'.
    """
    parameters = list(network.parameters())
    loss = torch.tensor(0.0)
    for label, drawn in enumerate(draws):
        chosen = rng.permutation(indices_class[label])[:batch]
        real = siamese.apply(images_all[chosen], drawn)
        made = siamese.apply(synthetic[label], drawn)
        real_loss = F.cross_entropy(network(real), torch.full((len(real),), label))
        wanted = [gradient.detach().clone() for gradient in torch.autograd.grad(real_loss, parameters)]
        made_loss = F.cross_entropy(network(made), torch.full((len(made),), label))
        loss = loss + gradient_distance(torch.autograd.grad(made_loss, parameters, create_graph=True), wanted)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def training_epoch(network, optimizer, images, labels, batch, generator, strategy=STRATEGY):
    """One epoch of training a network on a synthetic set (n, ...) with one operation of `strategy` a batch,
    parameters an image."""
    network.train()
    for chosen in torch.randperm(len(images), generator=generator).split(batch):
        drawn = siamese.draw_each(strategy, images.shape[-1], len(chosen), generator)
        logits = network(siamese.apply(images[chosen], drawn))
        loss = F.cross_entropy(logits, labels[chosen])
        # The running accuracy that such code keeps
        np.equal(logits.detach().argmax(1).numpy(), labels[chosen].numpy()).sum()
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


class BatchNormHook:
    """How far mean and variance of what a batch norm is given lie from its running statistics, at every
    forward pass."""

    def __init__(self, layer):
        self.gap = torch.tensor(0.0)
        layer.register_forward_hook(self.look)

    def look(self, layer, inputs, output):
        (maps,) = inputs
        channels = maps.shape[1]
        mean = maps.mean([0, 2, 3])
        variance = maps.permute(1, 0, 2, 3).contiguous().view(channels, -1).var(1, unbiased=False)
        self.gap = torch.norm(layer.running_var - variance, 2) + torch.norm(layer.running_mean - mean, 2)


def statistics_step(network, hooks, images, labels, optimizer, roll, first=10.0, weight=0.01):
    """One step of a batch of images (n, ...) with gradient, as SRe2L's code synthesizes small images: they
    follow the cross-entropy of a trained network in eval mode and the statistics of its batch norms."""
    down, right = roll
    logits = network(torch.roll(images, shifts=(down, right), dims=(2, 3)))
    gaps = [hook.gap * (first if number == 0 else 1.0) for number, hook in enumerate(hooks)]
    loss = F.cross_entropy(logits, labels) + weight * sum(gaps)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def distilled_epoch(student, teacher, optimizer, images, batch, generator, rng, temperature=30.0, beta=0.8):
    """One epoch of a student on images (n, ...) under the logits of a teacher: shifts and flips of every
    image, mixup of the batch, as SRe2L's code validates on small images."""
    student.train()
    for chosen in torch.randperm(len(images), generator=generator).split(batch):
        padded = F.pad(images[chosen], (4, 4, 4, 4))
        cut = []
        for image in padded:
            top, left = torch.randint(9, (2,), generator=generator).tolist()
            image = image[:, top : top + 32, left : left + 32]
            cut.append(image.flip(-1) if torch.rand((), generator=generator) < 0.5 else image)
        seen = torch.stack(cut)
        share = rng.beta(beta, beta)
        seen = share * seen + (1 - share) * seen[torch.randperm(len(seen), generator=generator)]
        with torch.no_grad():
            wanted = F.softmax(teacher(seen) / temperature, dim=1)
        loss = F.kl_div(F.log_softmax(student(seen) / temperature, dim=1), wanted, reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
