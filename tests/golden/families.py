"""What we compute for each family of golden numbers, from a fixture's inputs alone.

A family is a function of a `Fixture` that gives our value of every output it knows, by the name of the array
in the file. `Family.inputs` and `Family.pending` are patterns of the arrays that are not compared: those that
were given to us, and those of things that are not built yet. Any other array that a family leaves out is a
failure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from reference_networks import convnet, fill, load_stack, reference
from torch import Tensor, nn

from condense.augment import cutmix, formations, siamese, views
from condense.config import unknown
from condense.discrepancy import frequencies, style
from condense.discrepancy.barycentre import ITERATIONS, STOP, wasserstein_barycentre
from condense.discrepancy.characteristic import characteristic_function
from condense.discrepancy.diversity import intra_class_diversity
from condense.discrepancy.energy import diversity, energy_distance
from condense.discrepancy.flatness import logit_flatness
from condense.discrepancy.gradients import EPS, gradient_distance
from condense.discrepancy.kernels import MULTIPLIERS, bandwidth, kernel_mmd
from condense.discrepancy.mean import mean_discrepancy
from condense.discrepancy.priors import length, variation_by_lengths, variation_by_sizes
from condense.discrepancy.schedules import linear_decay
from condense.discrepancy.statistics import channel_moments, moment_gap
from condense.engines.observers import Observer, RunningMeans
from condense.engines.patches import losses_of
from condense.engines.units import channelwise
from condense.evaluate import ranking
from condense.files.statistics import MOMENTS
from condense.models import count_parameters
from condense.networks.layer_statistics import LayerKnowledge, Sums
from condense.select import coreset, patches
from condense.specs import Continual, Decode
from condense.specs.image_losses import LayerStatistics, LogitFlatness
from condense.specs.statistics import Crop
from condense.specs.training import DistillationLoss as DistillationSettings
from condense.specs.training import LogitsLoss as LogitsSettings
from condense.specs.training import SoftLoss as SoftSettings
from condense.training.losses import LOSSES
from condense.training.schedules import cosine_at, slowed_at
from condense.training.sets import Targets


@dataclass(frozen=True)
class Fixture:
    """One entry of the manifest with the arrays of its file."""

    entry: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def params(self) -> dict[str, Any]:
        return self.entry["params"]

    @property
    def dtype(self) -> torch.dtype:
        """Double precision where a tolerance is below 1e-4."""
        return torch.float64 if min(self.entry["tolerance"].values()) < 1e-4 else torch.float32

    def tensor(self, name: str, grad: bool = False) -> Tensor:
        """An array of floats in the fixture's precision."""
        return torch.tensor(self.arrays[name]).to(self.dtype).requires_grad_(grad)


@dataclass(frozen=True)
class Family:
    compute: Callable[[Fixture], dict[str, Any]]
    inputs: str
    pending: str = r"(?!)"


def distribution_matching(fixture: Fixture) -> dict[str, Any]:
    options = {name: value for name, value in fixture.params.items() if name not in ("image", "channels")}
    net = convnet(options, fixture.params["channels"], fixture.params["image"], classes=10).to(fixture.dtype)
    load_stack(
        net,
        {name.removeprefix("w:"): array for name, array in fixture.arrays.items() if name.startswith("w:")},
    )
    net.train()
    synthetic = fixture.tensor("syn", grad=True)
    with torch.no_grad():
        real_embedding = net.embed(fixture.tensor("real"))
    embedding = net.embed(synthetic)
    loss = mean_discrepancy(real_embedding, embedding)
    (gradient,) = torch.autograd.grad(loss, synthetic)
    return {"embed_real": real_embedding, "embed_syn": embedding, "loss": loss, "grad_syn": gradient}


def energy(fixture: Fixture) -> dict[str, Any]:
    real, synthetic = fixture.tensor("real"), fixture.tensor("syn", grad=True)
    value, without = (energy_distance(real, synthetic, constant=constant) for constant in (True, False))
    (gradient,) = torch.autograd.grad(value, synthetic)
    within = -diversity(synthetic)
    return {
        "value": value,
        "value_without_real_term": without,
        "cross": (without + within) / 2,
        "within_syn": within,
        "within_real": -diversity(real),
        "grad_syn": gradient,
        "grad_syn_analytic": gradient,
    }


def dsa(fixture: Fixture) -> dict[str, Any]:
    strengths = {
        "prob_flip": siamese.FLIP,
        "ratio_scale": siamese.SCALE,
        "ratio_rotate": siamese.ROTATE,
        "ratio_crop_pad": siamese.CROP,
        "ratio_cutout": siamese.CUTOUT,
        "brightness": siamese.BRIGHTNESS,
        "saturation": siamese.SATURATION,
        "contrast": siamese.CONTRAST,
    }
    ours = {
        "siamese": fixture.params["siamese"],
        "seed": fixture.params["seed"],
        "ops": fixture.params["ops"],
        **strengths,
    }
    assert fixture.params == ours, "an option of the augmentation that is not known, or another range"
    results = {}
    for case, how in fixture.params["ops"].items():
        drawn = _recorded_draw(fixture, case, how)
        images = fixture.tensor("x", grad=True)
        augmented = siamese.apply(images, drawn)
        (gradient,) = torch.autograd.grad(augmented, images, fixture.tensor("weight"))
        results |= {f"{case}:out": augmented, f"{case}:grad": gradient}
    return results


def _recorded_draw(fixture: Fixture, case: str, how: dict[str, str]) -> siamese.Draw:
    chosen = siamese.operations(how["strategy"])[int(fixture.arrays[f"{case}:choice"][0])]
    assert chosen == how["chosen"]
    recorded = {
        name.removeprefix(f"{case}:"): array
        for name, array in fixture.arrays.items()
        if name.startswith(f"{case}:")
    }
    draws = {
        name.removesuffix("_u"): array
        for name, array in recorded.items()
        if re.search("_u$|^shift_|^offset_", name)
    }
    # A siamese draw uses the first entry for the whole batch
    entries = 1 if fixture.params["siamese"] else None
    return siamese.Draw(chosen, {name: torch.tensor(array[:entries]) for name, array in draws.items()})


def selection(fixture: Fixture) -> dict[str, Any]:
    features, k = fixture.arrays["features"], fixture.params["k"]
    herded = coreset.herding(features, k)
    wrong = set(fixture.arrays["herding_farthest_set"].tolist())
    assert k == len(features) or set(herded.tolist()) != wrong, "this is the farthest sample, not the nearest"
    order = coreset.k_center(features, k, fixture.params["first"])
    return {
        "herding_order": herded,
        "kcenter_order": order,
        "kcenter_set": np.sort(order),
        "kcenter_radius": coreset.k_center_radius(features, order),
    }


def rded(fixture: Fixture) -> dict[str, Any]:
    n, factor, size = (fixture.params[name] for name in ("n", "factor", "size"))
    crops, weight, bias = (fixture.tensor(name) for name in ("crops", "w", "b"))

    def observer(images: Tensor) -> Tensor:
        return images.flatten(1) @ weight.T + bias

    losses = [
        losses_of(observer, of_image, label, size)
        for of_image, label in zip(crops, fixture.arrays["labels"].tolist(), strict=True)
    ]
    best, least = patches.easiest(crops, torch.stack(losses))
    selected = best[patches.lowest(least, n * factor**2)]
    return {"selected": selected, "stitched": patches.stitched(selected, factor)}


def schedules(fixture: Fixture) -> dict[str, Any]:
    steps, epochs = fixture.params["T"], fixture.params["N"]
    found: dict[str, Any] = {"lambda_cpdm": [linear_decay(step, steps) for step in range(steps)]}
    found["recover_cosine"] = [cosine_at(step, steps) for step in range(steps)]
    for falls in ("cosine", "linear"):
        crop = Crop(least=0.08, falls=falls)
        found[f"cda_{falls}"] = [views.least_area(crop, step, steps) for step in range(steps)]
    for zeta in fixture.params["zetas"]:
        found[f"smoothing_zeta{zeta}"] = [cosine_at(epoch, epochs, zeta) for epoch in range(epochs + 1)]
        found[f"ssrs_zeta{zeta}"] = [slowed_at(epoch, epochs, zeta) for epoch in range(epochs + 1)]
    return found


def soft_label_losses(fixture: Fixture) -> dict[str, Any]:
    labels, teachers = torch.tensor(fixture.arrays["targets"]), fixture.tensor("teachers")
    asked = {
        "mse_gt": (LogitsSettings("mse", hard_weight=fixture.params["ce_weight"]), teachers.mean(0)),
        f"kl_T{fixture.params['T']}": (
            DistillationSettings("distillation", float(fixture.params["T"])),
            teachers.mean(0),
        ),
        "soft_ce": (SoftSettings("soft"), teachers[0]),
    }
    results = {}
    for name, (settings, logits) in asked.items():
        student, loss = fixture.tensor("student", grad=True), LOSSES[settings.name](settings)
        value = loss.of_batch(student, labels, loss.compared(Targets(logits, "logits")), cutmix.Mixture())
        results[name] = value.reshape(1)
        (results[f"{name}_grad"],) = torch.autograd.grad(value, student)
    student = fixture.tensor("student", grad=True)
    assert fixture.params["tau"] == LogitFlatness("logits").temperature
    flatness = logit_flatness(student, fixture.tensor("ema_logits"), LogitFlatness("logits").temperature)
    (gradient,) = torch.autograd.grad(flatness, student)
    results |= {"flatness_kl": flatness, "flatness_kl_grad": gradient}
    return {name: value for name, value in results.items() if name in fixture.arrays}


def forward_convnet(fixture: Fixture) -> dict[str, Any]:
    results = {}
    for name, options in fixture.params.items():
        defaults = {"ch": 3, "nc": 10}
        options = {**defaults, **options}
        channels, size, classes = (options.pop(key) for key in ("ch", "im", "nc"))
        net = convnet(options, channels, size, classes).to(fixture.dtype)
        prefix = f"{name}:w:"
        load_stack(
            net,
            {
                key.removeprefix(prefix): array
                for key, array in fixture.arrays.items()
                if key.startswith(prefix)
            },
        )
        results |= _forward(net, fixture, name)
    return results


def forward_filled(fixture: Fixture) -> dict[str, Any]:
    results = {}
    for name, facts in fixture.params["nets"].items():
        channels, height, width = facts["input"]
        assert height == width
        classes = facts["parameters"][-1][1][0]
        net = reference(name, channels, height, classes).to(torch.float64)
        assert count_parameters(net) == facts["count"]
        fill(net, facts["parameters"], fixture.params["seed"])
        results |= _forward(net.to(fixture.dtype), fixture, name)
    return results


def _forward(net: torch.nn.Module, fixture: Fixture, name: str) -> dict[str, Any]:
    """Every output of a network that the file holds; the train pass last, because it moves running
    statistics."""
    images = fixture.tensor(f"{name}:x")
    wanted = {key.removeprefix(f"{name}:") for key in fixture.arrays if key.startswith(f"{name}:")}
    with torch.no_grad():
        net.eval()
        embedding = net.embed(images).flatten(1)
        results = {
            "embed": embedding,
            "embed_head": embedding[:, :64],
            "embed_norm": torch.linalg.vector_norm(embedding, dim=1),
            "logits": net(images),
        }
        if "logits_train" in wanted:
            results["logits_train"] = net.train()(images)
    return {f"{name}:{key}": value for key, value in results.items() if key in wanted}


def style_matching(fixture: Fixture) -> dict[str, Any]:
    layers = sorted(name.removeprefix("real_map_") for name in fixture.arrays if name.startswith("real_map_"))
    real = [fixture.tensor(f"real_map_{layer}").double() for layer in layers]
    maps = [fixture.tensor(f"syn_map_{layer}").double().requires_grad_() for layer in layers]

    def distance(function) -> Tensor:
        pairs = zip(real, maps, strict=True)
        return sum(
            style.squared_distance(function(left).mean(0), function(right).mean(0)) for left, right in pairs
        )

    variance = distance(style.moments) / 2
    correlation = distance(style.gram)
    gradients = torch.autograd.grad(variance + correlation, maps)
    embedding = fixture.tensor("syn_embed", grad=True)
    diverse = intra_class_diversity(embedding, fixture.params["k"])
    apart = torch.cdist(embedding, embedding).fill_diagonal_(torch.inf)
    return {
        "mm_variance": variance,
        "mm_std": distance(partial(style.moments, spread="deviation")) / 2,
        "cm": correlation,
        "icd": diverse,
        "icd_grad": torch.autograd.grad(diverse, embedding)[0],
        "neighbours": apart.argsort(1)[:, : fixture.params["k"]],
        **{f"grad_syn_map_{layer}": gradient for layer, gradient in zip(layers, gradients, strict=True)},
    }


def attention_matching(fixture: Fixture) -> dict[str, Any]:
    classes, power, balance = (fixture.params[name] for name in ("classes", "power", "task_balance"))
    layers = sorted(name.removeprefix("real_map_") for name in fixture.arrays if name.startswith("real_map_"))
    maps = {layer: fixture.tensor(f"syn_map_{layer}", grad=True) for layer in layers}
    embedding = fixture.tensor("syn_embed", grad=True)

    def of_classes(values: Tensor) -> Tensor:
        return values.unflatten(0, (classes, -1)).mean(1)

    losses, results = [], {}
    for layer in layers[:-1]:
        seen = style.attention(maps[layer], power)
        real = of_classes(style.attention(fixture.tensor(f"real_map_{layer}"), power))
        losses.append(100 * style.squared_distance(real, of_classes(seen)).sum())
        results[f"attention_syn_{layer}"] = seen
        results[f"attention_syn_{layer}_power4"] = style.attention(maps[layer], 4)
    real, own = (values.unflatten(0, (classes, -1)) for values in (fixture.tensor("real_embed"), embedding))
    output = 100 * balance * mean_discrepancy(real, own).sum()
    loss = sum(losses) + output
    gradients = torch.autograd.grad(loss, [*(maps[layer] for layer in layers[:-1]), embedding])
    results |= {
        f"grad_syn_map_{layer}": gradient for layer, gradient in zip(layers[:-1], gradients, strict=False)
    }
    known = {
        "loss_layers": torch.stack(losses),
        "loss_output": output,
        "loss": loss,
        "grad_syn_embed": gradients[-1],
    }
    return {name: value for name, value in (results | known).items() if name in fixture.arrays}


def kernel_discrepancy(fixture: Fixture) -> dict[str, Any]:
    assert fixture.params == {"n_kernels": len(MULTIPLIERS), "mul_factor": MULTIPLIERS[1] / MULTIPLIERS[0]}
    real, results = fixture.tensor("real"), {}
    for kernel in ("gaussian", "linear", "polynomial", "laplace"):
        synthetic = fixture.tensor("syn", grad=True)
        value = kernel_mmd(real, synthetic, kernel=kernel)
        results |= {f"loss_{kernel}": value, f"grad_syn_{kernel}": torch.autograd.grad(value, synthetic)[0]}
    both = torch.cat([real, fixture.tensor("syn")])
    return results | {"bandwidth": bandwidth(torch.cdist(both, both).square()), "multipliers": MULTIPLIERS}


def characteristic(fixture: Fixture) -> dict[str, Any]:
    real, t = fixture.tensor("real"), fixture.tensor("t")
    synthetic = fixture.tensor("syn", grad=True)
    weights = fixture.params["alpha"], fixture.params["beta"]
    value = characteristic_function(real, synthetic, t, None, *weights)
    rows = [torch.nn.functional.normalize(sample, dim=1) for sample in (real, synthetic)]
    matched = 300 * characteristic_function(*rows, t, None, *weights)
    return {
        "cf_loss": value,
        "cf_grad_syn": torch.autograd.grad(value, synthetic, retain_graph=True)[0],
        "match_loss": matched,
        "match_grad_syn": torch.autograd.grad(matched, synthetic)[0],
        "sampler:t": frequencies.sampled(
            _sampler(fixture), fixture.tensor("sampler:noise"), fixture.params["t_batchsize"]
        ),
        "cf_loss_self": characteristic_function(real, real, t, None, *weights),
    }


def _sampler(fixture: Fixture) -> dict[str, Tensor]:
    """The sampler's weights by our names: every third entry of its list of layers is a linear one, followed
    by its norm."""
    found = {}
    for layer in range(frequencies.LAYERS):
        for place, names in ((3 * layer, ("weight", "bias")), (3 * layer + 1, ("scale", "shift"))):
            for ours, theirs in zip(names, ("weight", "bias"), strict=True):
                found[f"{layer}.{ours}"] = fixture.tensor(f"sampler:w:t_layers_list.{place}.{theirs}")
    return found


def partition_expand(fixture: Fixture) -> dict[str, Any]:
    images, labels = fixture.tensor("syn"), torch.tensor(fixture.arrays["labels"])
    results = {"init": formations.mosaic(fixture.tensor("real_for_init"), Decode(2, "columns"))}
    for name, factor, order in (("expanded", 2, "columns"), ("expanded_3x3", 3, "rows")):
        results |= {
            name: formations.decode(images, Decode(factor, order)),
            f"{name}_labels": labels.repeat(factor**2),
        }
    return {name: value for name, value in results.items() if name in fixture.arrays}


def multi_formation(fixture: Fixture) -> dict[str, Any]:
    images, labels = fixture.tensor("syn"), torch.tensor(fixture.arrays["labels"])
    factor, bound = fixture.params["factor"], fixture.params["bound"]
    multi, multi_labels = formations.decode_all(images, labels, factor)
    bounded, bounded_labels = formations.decode_within(images, labels, factor, bound)
    return {
        "single": formations.decode(images, Decode(factor), fill=(0.5,)),
        "single_labels": labels.repeat(factor**2),
        "multi": multi,
        "multi_labels": multi_labels,
        "bound_sum": bounded.double().sum((1, 2, 3)),
        "bound_labels": bounded_labels,
        "init_mix": formations.mosaic(fixture.tensor("real_for_init"), Decode(factor), "nearest"),
    }


def protocol_measures(fixture: Fixture) -> dict[str, Any]:
    rows = fixture.arrays["cutmix_box"]
    found = [[*row[:4], *cutmix.box(int(row[0]), row[1], int(row[2]), int(row[3]))] for row in rows]
    named = ("real_hard", "hard", "own", "random_own", "plain", "random_plain")
    accuracies = [dict(zip(named, row, strict=True)) for row in fixture.arrays["accuracies"]]
    return {
        "cutmix_box": found,
        "hlr": [row["real_hard"] - row["hard"] for row in accuracies],
        "ior": [row["own"] - row["random_own"] for row in accuracies],
        "lrs": [ranking.label_robust(**{name: row[name] for name in named[:4]}) for row in accuracies],
        "ars": [
            ranking.augmentation_robust(
                augmented=row["own"],
                random_augmented=row["random_own"],
                plain=row["plain"],
                random_plain=row["random_plain"],
            )
            for row in accuracies
        ],
        # One step for each class: the steps are the order
        **{
            f"class_order_{classes}": [
                sum(Continual(steps=classes, order=order).class_steps(classes), ()) for order in range(5)
            ]
            for classes in (10, 100)
        },
    }


def barycentre(fixture: Fixture) -> dict[str, Any]:
    assert fixture.params == {"max_iterations": ITERATIONS, "stop": STOP}
    atoms, cost = wasserstein_barycentre(fixture.tensor("real"), fixture.tensor("init"))
    return {"barycentre": atoms, "cost": cost}


DISTANCES = {"ours": "layerwise_cosine", "mse": "squared_difference", "cos": "whole_cosine"}


def gradient_matching(fixture: Fixture) -> dict[str, Any]:
    assert set(fixture.params) == {"eps", "n_tensors"} and fixture.params["eps"] == EPS
    places = range(fixture.params["n_tensors"])
    real = [fixture.tensor(f"g_real_{place}") for place in places]
    metrics = {name.removeprefix("loss_") for name in fixture.arrays if name.startswith("loss_")}
    results = {}
    for metric in sorted(metrics):
        if metric not in DISTANCES:
            raise unknown("metric", metric, DISTANCES)
        synthetic = [fixture.tensor(f"g_syn_{place}", grad=True) for place in places]
        value = gradient_distance(DISTANCES[metric])(real, synthetic)
        # Of tensors that do not count: 0
        gradients = torch.autograd.grad(value, synthetic, materialize_grads=True)
        results |= {
            f"loss_{metric}": value,
            **{f"grad_{metric}_{place}": gradients[place] for place in places},
        }
    return {name: value for name, value in results.items() if name in fixture.arrays}


IMAGENET = SimpleNamespace(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def batch_norm_statistics(fixture: Fixture) -> dict[str, Any]:
    assert fixture.params == {
        "r_bn": LayerStatistics().weight,
        "first_bn_multiplier": LayerStatistics().first,
    }, "a setting of the loss that is not known, or another default"
    first, second = fixture.arrays["w:0.weight"], fixture.arrays["w:3.weight"]
    network = nn.Sequential(
        *(nn.Conv2d(first.shape[1], len(first), 3, padding=1, bias=False), nn.BatchNorm2d(len(first))),
        *(nn.ReLU(), nn.Conv2d(len(first), len(second), 3, stride=2, padding=1, bias=False)),
        *(nn.BatchNorm2d(len(second)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(len(second), len(fixture.arrays["w:8.bias"])),
    )
    weights = {name[2:]: torch.tensor(fixture.arrays[name]) for name in fixture.arrays if name[:2] == "w:"}
    network.load_state_dict(weights, strict=False)
    network.to(fixture.dtype).eval()
    observer = Observer(network, "golden", LayerStatistics())
    images, labels = fixture.tensor("x", grad=True), torch.tensor(fixture.arrays["targets"])
    observed = observer.observe(images, labels)
    loss = observed.classification + LayerStatistics().weight * observed.statistics
    with observer.layers as layers:
        logits = network(images)
    gaps = [
        moment_gap(channel_moments(maps), wanted)
        for maps, wanted in zip(layers.taken(), observer.wanted, strict=True)
    ]
    low, high = (channelwise(level, IMAGENET, torch.device("cpu"))[:, None, None] for level in (0.0, 1.0))
    return {
        "tv_l1": variation_by_sizes(images),
        "tv_l2": variation_by_lengths(images),
        "l2": length(images),
        "logits": logits,
        "r_feature": torch.stack(gaps),
        "bn_loss": observed.statistics,
        "ce": observed.classification,
        "loss": loss,
        "grad_x": torch.autograd.grad(loss, images)[0],
        "clipped": (3 * torch.tensor(fixture.arrays["x"])).clamp(low, high),
    }


class OneLayer(nn.Module):
    """A network of one layer, which is given the images themselves."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images).mean((2, 3))


def category_aware(fixture: Fixture) -> dict[str, Any]:
    """The pass over the real images and three steps, by the very classes that the engine uses."""
    params, results = fixture.params, {}
    real, labels = fixture.tensor("real_features"), torch.tensor(fixture.arrays["real_labels"])
    channels, classes = real.shape[1], params["classes"]
    norm = nn.BatchNorm2d(channels).to(fixture.dtype)
    norm.running_mean, norm.running_var = fixture.tensor("bn_running_mean"), fixture.tensor("bn_running_var")
    for prefix, layer in {"bn": norm, "conv": nn.Conv2d(channels, classes, 1).to(fixture.dtype)}.items():
        sums, patches = Sums(classes), prefix == "conv"
        for start in range(0, len(real), classes):
            chosen = slice(start, start + classes)
            sums.add([real[chosen]], [patches], labels[chosen])
        means = sums.means()
        names = {"mean": "dd_mean", "variance": "dd_var", "patch_mean": "patch_mean"}
        names["patch_variance"] = "patch_var"
        for name in MOMENTS if patches else MOMENTS[:2]:
            results[f"{prefix}:class_{names[name]}"] = means[f"0.classes.{name}"]
            results[f"{prefix}:global_{names[name]}"] = means[f"0.all.{name}"]
        known = LayerKnowledge(
            *(
                tuple(means[f"0.{of}.{name}"] for name in (MOMENTS if patches else MOMENTS[:2]))
                for of in ("all", "classes")
            )
        )
        for way in ("as_published:", "consistent:") if patches else ("",):
            settings = LayerStatistics(
                first=1.0,
                classes=1 - params["alpha"],
                convolutions=patches,
                running=params["momentum"],
                from_zero=True,
                exchanged=way == "as_published:",
            )
            values, gradient = [], None
            observer = Observer(OneLayer(layer).eval(), "golden", settings, [known])
            running = RunningMeans(observer, 1)
            for step in range(3):
                maps = fixture.tensor(f"features_{step}", grad=True)
                seen = observer.observe(maps, torch.tensor(fixture.arrays["targets"]), running.of(0))
                running.take(0, seen.means)
                values.append(seen.statistics.detach())
                (gradient,) = torch.autograd.grad(seen.statistics, maps)
            results |= {f"{prefix}:{way}r_feature": torch.stack(values), f"{prefix}:{way}grad_last": gradient}
    return {name: value for name, value in results.items() if name in fixture.arrays}


FAMILIES = {
    "bn_statistics": Family(batch_norm_statistics, r"x|targets|w:.*"),
    "category_aware": Family(
        category_aware, r"targets|features_\d|real_features|real_labels|bn_running_(mean|var)"
    ),
    "distribution_matching": Family(distribution_matching, r"real|syn|w:.*"),
    "energy_distance": Family(energy, r"real|syn"),
    "dsa": Family(dsa, r"x|weight|[^:]+:(\w+_u|shift_\w+|offset_\w+|choice)"),
    "selection": Family(selection, r"features|herding_farthest_set"),
    "rded": Family(rded, r"crops|labels|w|b"),
    "schedules": Family(schedules, r"epoch"),
    "soft_label_losses": Family(soft_label_losses, r"student|teachers|targets|ema_logits"),
    "style_matching": Family(style_matching, r"(real|syn)_map_.*|syn_embed"),
    "datadam": Family(attention_matching, r"(real|syn)_map_.*|(real|syn)_embed"),
    "m3d": Family(kernel_discrepancy, r"real|syn"),
    "ncfm": Family(characteristic, r"real|syn|t|sampler:(noise|w:.*)"),
    "partition_expand": Family(partition_expand, r"syn|labels|real_for_init"),
    "multi_formation": Family(multi_formation, r"syn|labels|real_for_init"),
    "protocol": Family(protocol_measures, r"accuracies"),
    "wasserstein_barycentre": Family(barycentre, r"real|init"),
    "gradient_matching": Family(gradient_matching, r"g_(real|syn)_\d+"),
    "forward_convnet": Family(forward_convnet, r"[^:]+:(x|w:.*)"),
    "forward_filled": Family(forward_filled, r"[^:]+:x"),
}

NOT_BUILT = {
    "kernel_ridge",
    "trajectory",
}
