"""What every term and every recipe owes, whoever adds it: tested by existing."""

from dataclasses import fields
from types import SimpleNamespace

import pytest
import torch
from tape_helpers import Watch, forbid_copies_to_the_host

from condense import kernels, models, plan, recipes, specs
from condense.augment import siamese
from condense.engines.terms import TERMS
from condense.engines.views import RealSide, Views

CLASSES, REAL, SYNTHETIC = 3, 6, 4
DRAWING = {"characteristic_function", "characteristic_energy", "network_contrast", "network_cosine"}


def network(classes=CLASSES, seed=1):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return models.build("convnet", channels=1, size=8, classes=classes, depth=2, width=8).requires_grad_(False).eval().double()


def views(real, synthetic, classes=range(CLASSES)):
    labels = torch.tensor(list(classes))[:, None].expand(-1, synthetic.shape[1])
    draws = [siamese.Draw("none")] * len(real)
    of_class = dict(zip(classes, real, strict=True)).get
    as_they_are = SimpleNamespace(normalise=lambda images: images, of_class=of_class)
    shown = {"accuracy": 50.0, "trained": network(), "draw_second": lambda: network(seed=2)}
    side = RealSide(as_they_are, real, None, draws, network(), **shown)
    return Views(side, synthetic, labels, network(), synthetic.dtype)


def value_of(term, seen):
    """The value of a term, after what it asks for has been ordered as the engine does it."""
    objective = TERMS[term.name]
    seen.statistics = seen.side.wanted = tuple(objective.statistics(term))
    return objective.value(seen, term)


def named(name, **options):
    """A term with those of the options that it has."""
    kind = specs.kind_of_term(name)
    known = {field.name for field in fields(kind)}
    return kind(name=name, **{option: value for option, value in options.items() if option in known})


@pytest.fixture
def images():
    rng = torch.Generator().manual_seed(0)
    real = torch.randn(CLASSES, REAL, 1, 8, 8, generator=rng, dtype=torch.float64)
    synthetic = torch.randn(CLASSES, SYNTHETIC, 1, 8, 8, generator=rng, dtype=torch.float64)
    return real, synthetic.requires_grad_(True)


@pytest.mark.parametrize("name", TERMS)
def test_a_term_gives_one_finite_value_a_class_in_the_precision_of_the_images(name, images):
    value = value_of(named(name), views(*images))
    assert value.shape == (CLASSES,) and value.dtype == torch.float64 and torch.isfinite(value).all()


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("sees", ["plain", "augmented"])
def test_a_term_moves_the_images_by_a_finite_gradient(name, sees, images):
    value_of(named(name, sees=sees), views(*images)).sum().backward()
    gradient = images[1].grad
    assert torch.isfinite(gradient).all() and (gradient.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", TERMS)
def test_the_gradient_is_finite_where_synthetic_images_are_copies_of_real_ones(name, images):
    copies = images[0][:, :SYNTHETIC].clone().requires_grad_(True)
    value_of(named(name), views(images[0], copies)).sum().backward()
    assert torch.isfinite(copies.grad).all()


@pytest.mark.parametrize("name", sorted(set(TERMS) - {"barycentre"}))  # which is solved on the host, once
def test_a_term_lets_the_host_go_on(name, images, monkeypatch):
    """On a GPU its work is recorded as a CUDA graph: no `.item()`, no `if` on a value, no mask as an index, no new tensor of numbers.

    The last is left to terms that draw on the host, whose steps are not recorded.
    """
    seen = views(*images)
    forbid_copies_to_the_host(monkeypatch)
    with Watch(from_host=name in DRAWING), kernels.plain():
        value_of(named(name), seen).sum().backward()


@pytest.mark.parametrize("name", sorted(set(TERMS) - {"prediction_kl", "barycentre"}))  # which pair two samples by their order
def test_the_order_of_the_samples_does_not_matter(name, images):
    real, synthetic = images
    turned = value_of(named(name), views(real.flip(1), synthetic.flip(1)))
    torch.testing.assert_close(turned, value_of(named(name), views(real, synthetic)), rtol=1e-9, atol=1e-12)


def alone_and_together(name, images):
    alone = [value_of(named(name), views(images[0][c : c + 1], images[1][c : c + 1], [c]))[0] for c in range(CLASSES)]
    return torch.stack(alone), value_of(named(name), views(*images))


@pytest.mark.parametrize("name", sorted(set(TERMS) - set(specs.COUPLING_TERMS)))
def test_a_class_alone_has_the_value_it_has_among_others(name, images):
    torch.testing.assert_close(*alone_and_together(name, images), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", specs.COUPLING_TERMS)
def test_terms_are_said_to_couple_classes_only_where_they_do(name, images):
    alone, together = alone_and_together(name, images)
    assert ((alone - together).abs() > 1e-6).all()


@pytest.mark.parametrize("name", recipes.names_in("methods"))
@pytest.mark.parametrize("scale", recipes.names_in("scales"))
def test_every_recipe_resolves_at_every_scale(name, scale):
    maker = plan.Maker(recipes.scale(scale))
    for dataset in sorted({entry for entries in maker.scale.datasets.values() for entry in entries}):
        cell = maker.synthetic(dataset, name, "convnet", 1, 0)
        assert len(cell.key) == 12 and cell.key == maker.synthetic(dataset, name, "convnet", 1, 0).key
        assert cell.recipe.engine != "matching" or cell.key != maker.synthetic(dataset, name, "convnet", 1, 1).key


def published(name):
    import csv

    with open(recipes.params_folder() / "published" / "hyperparameters.csv", encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["paper"] == "cpdm" and row["name"] == name and row["value"]]


@pytest.mark.parametrize("row", published("image_learning_rate"), ids=lambda row: f"{row['dataset']}-{row['ipc']}")
def test_learning_rates_are_those_of_table_10(row):
    if row["dataset"] not in recipes.names_in("datasets") or not row["ipc"].isdigit():
        pytest.skip(f"{row['dataset']}: no such dataset here")
    spec = plan.data_cell(row["dataset"]).spec
    resolved = recipes.resolve(recipes.recipe("cpdm"), row["dataset"], spec.strategy, int(row["ipc"]), [])
    assert resolved.optimizer.lr == float(row["value"])


@pytest.mark.parametrize(
    "dataset, ipc, weight",
    [("cifar10", 10, 0.5), ("cifar10", 50, 0.1), ("cifar100", 10, 0.1), ("tinyimagenet", 10, 0.5), ("tinyimagenet", 50, 0.8),
     ("imagenet_subset100", 1, 3.0), ("imagenet_subset100", 50, 3.0)],
)  # fmt: skip
@pytest.mark.parametrize("name", ["idm", "idm_sm", "dm_ms_reg"])
def test_what_a_recipe_says_of_a_dataset_goes_before_what_it_says_of_any(name, dataset, ipc, weight):
    resolved = recipes.resolve(recipes.recipe(name), dataset, plan.data_cell(dataset).spec.strategy, ipc, [])
    assert next(term.weight for term in resolved.terms if term.name == "cross_entropy") == weight
