"""What every term and every recipe owes, whoever adds it: tested by existing."""

from dataclasses import fields, replace
from functools import cache
from itertools import product
from types import SimpleNamespace
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from reading_helpers import choices, noting
from tape_helpers import Watch, forbid_copies_to_the_host

from condense import kernels, models, plan, specs
from condense.augment import siamese
from condense.config import UserError
from condense.discrepancy.kernels import kernel_mmd
from condense.engines import terms
from condense.engines.terms import objective
from condense.engines.views import Views, WatchedSide
from condense.specs import catalogue

CLASSES, REAL, SYNTHETIC = 3, 6, 4
NETWORKS = [
    specs.Networks(),
    specs.QueueNetworks("queue"),
    *(
        specs.TrainedNetworks("trained", "critic", count, mixed)
        for count in (1, 2)
        for mixed in (False, True)
    ),
    specs.TrajectoryNetworks("trajectory", "critic"),
    specs.SubspaceNetworks("subspace", "critic"),
]


def forms():
    """Every term in all the forms that its options of a few values give it."""
    for name, kind in specs.TERMS.items():
        hints = {
            field.name: get_type_hints(kind)[field.name] for field in fields(kind) if field.name != "name"
        }
        choices = {option: (False, True) for option, hint in hints.items() if hint is bool}
        choices |= {option: get_args(hint) for option, hint in hints.items() if get_origin(hint) is Literal}
        for values in product(*choices.values()):
            options = dict(zip(choices, values, strict=True))
            yield pytest.param(kind(name=name, **options), id="-".join([name, *map(str, values)]))


every_term = pytest.mark.parametrize("term", list(forms()))


@cache
def network(classes=CLASSES, seed=1):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return (
            models.build("convnet", channels=1, size=8, classes=classes, depth=2, width=8)
            .requires_grad_(False)
            .eval()
            .double()
        )


class Critic(torch.nn.Module):
    """A classifier that notes what it is shown: of how many images, and whether they have a gradient."""

    def __init__(self):
        super().__init__()
        self.network, self.shown = network(seed=3), []

    def forward(self, images):
        self.shown.append((len(images), images.requires_grad))
        return self.network(images)


def views(
    real,
    synthetic,
    classes=range(CLASSES),
    *,
    kept=None,
    seed=1,
    second=2,
    gives=None,
    critic=None,
    memory=None,
):
    """A step: `real` its real images and `kept` (None: the same) those of the training set, `seed` and
    `second` those of its networks.

    `gives`: only what networks of this kind give.
    """
    labels = torch.tensor(list(classes))[:, None].expand(-1, synthetic.shape[1])
    draws = [siamese.Draw("none")] * len(real)
    of_class = dict(zip(classes, real if kept is None else kept, strict=True)).get
    as_they_are = SimpleNamespace(normalise=lambda images: images, of_class=of_class)
    shown = {"accuracy": 50.0} if gives is None or gives.trained_as_it_goes else {}
    shown |= {"trained": network(seed=seed)} if gives is None or gives.trained_beside else {}
    shown |= {"draw_second": lambda: network(seed=second)} if gives is None or gives.give_pairs else {}
    side = WatchedSide(as_they_are, real, None, draws, network(seed=seed), **shown)
    return Views(side, synthetic, labels, critic, synthetic.dtype, memory={} if memory is None else memory)


def value_of(term, seen):
    """The value of a term, after what it asks for has been ordered as the engine does it."""
    asked = objective(term.name)
    seen.statistics = seen.side.wanted = tuple(asked.statistics(term))
    if asked.after is not None:  # an earlier step, of other images, left what this one is compared with
        with torch.no_grad():
            asked.after(replace(seen, synthetic=seen.synthetic.detach() + 1), term)
    return asked.value(seen, term)


def judged(*arguments, **options):
    """A step with a critic."""
    return views(*arguments, critic=Critic(), **options)


def same(value, other):
    return torch.allclose(value, other, rtol=1e-9, atol=1e-12)


@pytest.fixture
def images():
    rng = torch.Generator().manual_seed(0)
    real = torch.randn(CLASSES, REAL, 1, 8, 8, generator=rng, dtype=torch.float64)
    synthetic = torch.randn(CLASSES, SYNTHETIC, 1, 8, 8, generator=rng, dtype=torch.float64)
    return real, synthetic.requires_grad_(True)


@every_term
def test_a_term_gives_one_finite_value_a_class_in_the_precision_of_the_images(term, images):
    value = value_of(term, judged(*images))
    assert value.shape == (CLASSES,) and value.dtype == torch.float64 and torch.isfinite(value).all()


@every_term
def test_a_term_moves_the_images_by_a_finite_gradient(term, images):
    value_of(term, judged(*images)).sum().backward()
    gradient = images[1].grad
    assert torch.isfinite(gradient).all() and (gradient.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", specs.TERMS)
def test_a_term_that_acts_after_a_step_says_so(name):
    """Its class, which the estimate asks, and its function, which the engine calls."""
    assert specs.TERMS[name].looks_back == (objective(name).after is not None)


@every_term
def test_the_gradient_is_finite_where_synthetic_images_are_copies_of_real_ones(term, images):
    copies = images[0][:, :SYNTHETIC].clone().requires_grad_(True)
    value_of(term, judged(images[0], copies)).sum().backward()
    assert torch.isfinite(copies.grad).all()


@every_term
def test_a_term_lets_the_host_go_on(term, images, monkeypatch):
    """On a GPU its work is recorded as a CUDA graph: no `.item()`, no `if` on a value, no mask as an index,
    no new tensor of numbers.

    The last is left to terms that draw on the host, whose steps are not recorded. Before the first step a
    term may work on the host.
    """
    first = judged(*images)
    value_of(term, first)
    seen = judged(*images, memory=first.memory)
    forbid_copies_to_the_host(monkeypatch)
    with Watch(from_host=term.draws), kernels.plain():
        value_of(term, seen).sum().backward()
    assert seen.side.read == term.draws


@every_term
def test_the_order_of_the_samples_matters_only_to_terms_that_say_so(term, images):
    real, synthetic = images
    turned = value_of(term, judged(real.flip(1), synthetic.flip(1)))
    assert same(turned, value_of(term, judged(real, synthetic))) != term.in_order


def at_second_step(term, *arguments):
    first = judged(*arguments)
    value_of(term, first)
    return value_of(term, judged(*arguments, memory=first.memory)).detach()


@every_term
def test_a_class_alone_has_the_value_it_has_among_others_unless_the_term_couples(term, images):
    alone = torch.cat(
        [at_second_step(term, images[0][c : c + 1], images[1][c : c + 1], [c]) for c in range(CLASSES)]
    )
    together = at_second_step(term, *images)
    if term.couples:
        assert ((alone - together).abs() > 1e-6).all()
    else:
        torch.testing.assert_close(alone, together, rtol=1e-9, atol=1e-12)


@every_term
def test_a_term_sees_the_real_images_of_the_step_where_it_says_so(term, images):
    real, synthetic = images
    value = value_of(term, judged(real, synthetic))
    assert same(value, value_of(term, judged(real + 1, synthetic, kept=real))) != term.sees_real


@every_term
def test_a_term_sees_the_networks_of_the_step_where_it_says_so(term, images):
    value = value_of(term, judged(*images))
    assert same(value, value_of(term, judged(*images, seed=4))) != term.sees_network
    assert same(value, value_of(term, judged(*images, second=5))) != term.pairs


@every_term
def test_a_term_asks_the_critic_for_what_it_says_and_no_other_does_without_one(term, images):
    critic, count = Critic(), CLASSES * SYNTHETIC
    value_of(term, views(*images, critic=critic))
    assert sorted(critic.shown) == sorted((count, side == "synthetic") for side, _ in term.critic_passes)
    assert bool(term.critic_passes) == (term.needs_teacher or term.requires is not None)
    if term.critic_passes:
        with pytest.raises(ValueError, match="a network that the step does not have: critic"):
            value_of(term, views(*images))
    else:
        value_of(term, views(*images))


@every_term
@pytest.mark.parametrize("size", [SYNTHETIC - 1, SYNTHETIC])
def test_a_batch_that_a_term_takes_is_large_enough(term, size, images):
    try:
        term.check_batch(size, SYNTHETIC)
    except UserError:
        with pytest.raises(ValueError):
            value_of(term, judged(images[0][:, :size], images[1]))
    else:
        assert torch.isfinite(value_of(term, judged(images[0][:, :size], images[1]))).all()


@every_term
@pytest.mark.parametrize("networks", NETWORKS, ids=str)
def test_networks_that_a_term_takes_give_what_it_needs(term, networks, images):
    try:
        term.check_networks(networks)
    except UserError as error:
        assert str(error).startswith(f"networks: '{term.name}' ")
    else:
        assert torch.isfinite(value_of(term, judged(*images, gives=networks))).all()


def check_read(name, images):
    """Every option of the term `name` is read by its function, in one of its forms."""
    read: set[str] = set()
    for form in forms():
        (term,) = form.values
        if term.name == name:
            first = judged(*images)
            value_of(noting(term, read), first)
            value_of(noting(term, read), judged(*images, memory=first.memory))
    unread = choices(specs.TERMS[name], "name", "weight", "turn") - read
    assert not unread, (
        f"term '{name}': its function reads no {', '.join(sorted(unread))}: name it in its entry of "
        f"condense.engines.terms.TERMS, or leave it out of {specs.TERMS[name].__name__}"
    )


@pytest.mark.parametrize("name", specs.TERMS)
def test_every_option_of_a_term_is_read(name, images):
    check_read(name, images)


def test_an_option_that_an_entry_does_not_hand_on_is_found(images, monkeypatch):
    monkeypatch.setitem(terms.TERMS, "kernel_mmd", terms.Objective(terms._of_samples(kernel_mmd)))
    with pytest.raises(AssertionError, match="term 'kernel_mmd': its function reads no kernel: name it in"):
        check_read("kernel_mmd", images)


@every_term
def test_costs_of_a_term_are_none_or_grow_with_the_images(term):
    assert term.distances(8.0, 2.0) >= 0 and term.distances(8.0, 4.0) >= term.distances(8.0, 2.0)
    assert (term.distances(8.0, 2.0) == term.distances(4.0, 2.0)) or term.sees_real


@pytest.mark.parametrize("name", catalogue.names_in("methods"))
@pytest.mark.parametrize("scale", catalogue.names_in("scales"))
def test_every_recipe_resolves_at_every_scale(name, scale):
    maker = plan.Maker(catalogue.scale(scale))
    for dataset in sorted({entry for entries in maker.scale.datasets.values() for entry in entries}):
        cell = maker.synthetic(dataset, name, "convnet", 1, 0)
        assert len(cell.key) == 12 and cell.key == maker.synthetic(dataset, name, "convnet", 1, 0).key
        assert (
            cell.recipe.engine != "matching"
            or cell.key != maker.synthetic(dataset, name, "convnet", 1, 1).key
        )


def published(name):
    import csv

    with open(
        catalogue.params_folder() / "published" / "hyperparameters.csv", encoding="utf-8", newline=""
    ) as file:
        return [
            row
            for row in csv.DictReader(file)
            if row["paper"] == "cpdm" and row["name"] == name and row["value"]
        ]


@pytest.mark.parametrize(
    "row", published("image_learning_rate"), ids=lambda row: f"{row['dataset']}-{row['ipc']}"
)
def test_learning_rates_are_those_of_table_10(row):
    if row["dataset"] not in catalogue.names_in("datasets") or not row["ipc"].isdigit():
        pytest.skip(f"{row['dataset']}: no such dataset here")
    spec = plan.data_cell(row["dataset"]).spec
    resolved = catalogue.resolve(catalogue.recipe("cpdm"), row["dataset"], spec.strategy, int(row["ipc"]), [])
    assert resolved.optimizer.lr == float(row["value"])


@pytest.mark.parametrize(
    "dataset, ipc, weight",
    [
        ("cifar10", 10, 0.5),
        ("cifar10", 50, 0.1),
        ("cifar100", 10, 0.1),
        ("tinyimagenet", 10, 0.5),
        ("tinyimagenet", 50, 0.8),
        ("imagenet_subset100", 1, 3.0),
        ("imagenet_subset100", 50, 3.0),
    ],
)
@pytest.mark.parametrize("name", ["idm", "idm_sm", "dm_ms_reg"])
def test_what_a_recipe_says_of_a_dataset_goes_before_what_it_says_of_any(name, dataset, ipc, weight):
    resolved = catalogue.resolve(
        catalogue.recipe(name), dataset, plan.data_cell(dataset).spec.strategy, ipc, []
    )
    assert next(term.weight for term in resolved.terms if term.name == "cross_entropy") == weight
