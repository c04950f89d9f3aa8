"""Spaces of networks: their sizes, their candidates by number and name, the parameters and FLOPs that the
benchmark has, and samples."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from condense.config import UserError
from condense.models import ARCHITECTURES, build, count_parameters
from condense.specs.spaces import SPACES, space_of
from condense.specs.spaces.convnets import CHOICES, CONVNETS, candidate_of, settings_of
from condense.specs.spaces.nas201 import NAS201, OPERATIONS, SIZE, cell_number, genotype, operations_of


def cell(*operations):
    """The number of the cell with these operations, one for each edge or the same for all."""
    names = operations * 6 if len(operations) == 1 else operations
    return cell_number("|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*names))


@pytest.mark.parametrize("name", SPACES)
def test_a_space_numbers_the_candidates_of_the_architecture_of_its_name(name):
    space = space_of(name)
    assert space.name == name and name in ARCHITECTURES
    assert hasattr(ARCHITECTURES[name].defaults, space.option)
    assert len({space.told(k) for k in range(space.size)}) == space.size
    for candidate in (-1, space.size):
        with pytest.raises(UserError, match=f"{space.option}: "):
            build(name, channels=3, size=32, classes=10, **space.options(candidate))


def test_an_architecture_that_is_no_space_is_named():
    with pytest.raises(UserError, match="unknown space of networks 'convnet'"):
        space_of("convnet")


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_samples_are_drawn_without_repetition_and_hold_smaller_ones(space):
    few, many, other = space.sample(12, 0), space.sample(100, 0), space.sample(12, 1)
    assert len(set(few)) == 12 and few == sorted(few) and set(few) < set(many) and few != other
    assert list(range(space.size)) == space.sample(space.size, 5)
    with pytest.raises(UserError, match=f"{space.size + 1:,} networks are asked for, and the space"):
        space.sample(space.size + 1, 0)


def test_samples_are_the_same_on_every_machine():
    assert CONVNETS.sample(4, 0) == [222, 255, 449, 533]
    assert NAS201.sample(4, 0) == [1236, 5308, 6886, 9166]


def test_the_720_convnets_are_all_combinations():
    wanted = [dict(zip(CHOICES, values, strict=True)) for values in product(*CHOICES.values())]
    assert len(wanted) == CONVNETS.size == 720
    assert [settings_of(number) for number in range(720)] == wanted
    assert all(candidate_of(settings) == number for number, settings in enumerate(wanted))


@pytest.mark.parametrize(
    "settings, count",
    [
        ({"width": 32, "depth": 3, "norm": "none", "act": "relu", "pool": "max"}, 24_522),
        ({"width": 256, "depth": 4, "norm": "layer", "act": "sigmoid", "pool": "none"}, 6_496_010),
        ({"width": 128, "depth": 3, "norm": "instance", "act": "relu", "pool": "average"}, 320_010),
    ],
)
def test_convnets_of_the_space_have_the_parameters_of_the_convnet(settings, count):
    with torch.device("meta"):
        network = build(
            "convnet_search_space", channels=3, size=32, classes=10, candidate=candidate_of(settings)
        )
        assert count_parameters(network) == count
        narrow = settings | {"width": settings["width"] // 8}
        made = [
            build("convnet", channels=3, size=32, classes=10, **narrow),
            build(
                "convnet_search_space",
                channels=3,
                size=32,
                classes=10,
                candidate=candidate_of(settings),
                narrowing=8,
            ),
        ]
        assert count_parameters(made[0]) == count_parameters(made[1])


def test_smallest_and_largest_of_the_convnets():
    """The smallest has depth 3: with fewer blocks the linear layer is larger, with more there is another
    block."""
    with torch.device("meta"):
        counts = {
            number: count_parameters(
                build("convnet_search_space", channels=3, size=32, classes=10, candidate=number)
            )
            # pooling and activation have no parameters, but for whether there is a pooling
            for number in range(1, CONVNETS.size, 3)
        }
        assert min(counts.values()) == 24_522
        assert (
            max(
                count_parameters(
                    build("convnet_search_space", channels=3, size=32, classes=10, candidate=number)
                )
                for number in range(0, CONVNETS.size, 9)
            )
            == 6_496_010
        )


@pytest.mark.parametrize("narrowing", [0, 3, 16])
def test_a_narrowing_that_leaves_no_width_is_refused(narrowing):
    with pytest.raises(UserError, match="narrowing: "):
        build("convnet_search_space", channels=3, size=32, classes=10, narrowing=narrowing)


def test_cells_are_written_as_the_benchmark_does():
    assert SIZE == 15_625
    for number in (0, 1, 4, 5, 7_812, SIZE - 1):
        assert cell_number(genotype(number)) == cell_number(str(number)) == cell_number(number) == number
    assert genotype(0) == "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    assert operations_of(1)[-1] == "skip_connect" and operations_of(5)[-2] == "skip_connect"
    text = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    assert genotype(cell_number(text)) == text


@pytest.mark.parametrize(
    "wrong, said",
    [
        ("", "is no cell"),
        ("|none~0|+|none~0|none~1|", "is no cell"),
        ("|none~0|+|none~1|none~0|+|none~0|none~1|none~2|", "is no cell"),
        ("|none~0|none~1|+|none~0|+|none~0|none~1|none~2|", "is no cell"),
        ("|max_pool~0|+|none~0|none~1|+|none~0|none~1|none~2|", "unknown operation 'max_pool'"),
        (SIZE, "numbers from 0 to 15,624 are cells"),
        (str(SIZE), "numbers from 0 to 15,624 are cells"),
        ("-1", "or its number, from 0 to 15,624"),
        ("9" * 5000, "is no cell"),
        (True, "is no cell"),
    ],
)
def test_what_is_no_cell_is_named(wrong, said):
    with pytest.raises(UserError, match=said):
        cell_number(wrong)


SKIP_LAST = ["nor_conv_3x3"] * 3 + ["skip_connect"] + ["nor_conv_3x3"] * 2


@pytest.mark.parametrize(
    "operations, five, one",
    [
        (["none"], 73_306, 73_306),
        (["skip_connect"], 73_306, 73_306),
        (["avg_pool_3x3"], 73_306, 73_306),
        (["nor_conv_1x1"], 241_306, 106_906),
        (["nor_conv_3x3"], 1_531_546, 364_954),
        (SKIP_LAST, 1_288_506, 316_346),
    ],
)
def test_networks_of_the_benchmark_have_its_parameters(operations, five, one):
    for cells, count in ((5, five), (1, one)):
        with torch.device("meta"):
            network = build(
                "nas_bench_201", channels=3, size=32, classes=10, cell=cell(*operations), cells=cells
            )
        assert count_parameters(network) == count


def test_parameters_for_100_classes():
    with torch.device("meta"):
        network = build("nas_bench_201", channels=3, size=32, classes=100)
    assert count_parameters(network) == 1_537_396


def flops(**options):
    """Of a forward pass of one image, a multiplication and an addition counting as two."""
    with torch.device("meta"):
        network = build("nas_bench_201", channels=3, size=32, classes=10, **options).eval()
        with FlopCounterMode(display=False) as counted:
            network(torch.empty(1, 3, 32, 32))
    return counted.get_total_flops()


@pytest.mark.parametrize("cells", [5, 1])
def test_flops_are_those_of_the_closed_form(cells):
    """Convolutions alone: 9 or 1 places, squared channels, pixels; the benchmark's 7.78 and 220.12 million of
    multiply-adds for cells of nothing and of 3 x 3 convolutions."""
    stem, linear = 32**2 * 3 * 16 * 9, 64 * 10
    halving = 2 * ((16 * 32 * 9 + 32 * 32 * 9 + 16 * 32) * 16**2)
    rest, edge = stem + halving + linear, 3 * cells * 16**2 * 32**2
    assert flops(cell=cell("none"), cells=cells) == 2 * rest
    assert flops(cell=cell("avg_pool_3x3"), cells=cells) == 2 * rest
    assert flops(cell=cell("nor_conv_3x3"), cells=cells) == 2 * (rest + 6 * 9 * edge)
    assert flops(cell=cell("nor_conv_1x1"), cells=cells) == 2 * (rest + 6 * edge)
    mixed = [OPERATIONS[k] for k in (3, 2, 0, 1, 4, 3)]
    assert flops(cell=cell(*mixed), cells=cells) == 2 * (rest + (9 + 1 + 9) * edge)
    if cells == 5:
        assert (rest, rest + 54 * edge) == (7_783_040, 220_119_680)


def tiny(operations, mixture=False):
    torch.manual_seed(3)
    network = build(
        "nas_bench_201", channels=3, size=8, classes=4, cells=1, width=4, cell=operations, mixture=mixture
    )
    return network.double().eval()


def edge(network, stage, place):
    return network.stages[stage].body[2 if stage == 0 else 1].edges[place]


def test_a_cell_is_the_sum_over_its_edges():
    """By hand: node 1 from 0, node 2 from 0 and 1, node 3 from all."""
    operations = ["nor_conv_3x3", "skip_connect", "nor_conv_1x1", "none", "avg_pool_3x3", "nor_conv_3x3"]
    network = tiny(cell(*operations))
    body = network.stages[1].body[1]
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def unit(place, values):
        _, convolution, norm = body.edges[place]
        values = F.conv2d(values.clamp(min=0), convolution.weight, padding=convolution.weight.shape[-1] // 2)
        return F.batch_norm(values, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    first = unit(0, x)
    second = x + unit(2, first)
    ones = F.conv2d(torch.ones_like(x[:, :1]), torch.ones(1, 1, 3, 3).double(), padding=1)
    pooled = F.conv2d(first, torch.ones(8, 1, 3, 3).double(), padding=1, groups=8) / ones
    torch.testing.assert_close(body(x), pooled + unit(5, second))


def test_an_edge_of_a_mixture_weighs_all_operations():
    """0.405 of the chosen one and 0.149 of each other, under norms without weights."""
    network = tiny(cell("nor_conv_1x1"), mixture=True)
    mixed = edge(network, 0, 0)
    weights = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]).softmax(0).tolist()
    assert [round(weight, 3) for weight in mixed.weights] == [0.149, 0.149, 0.405, 0.149, 0.149]
    assert mixed.weights == pytest.approx(weights)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    parts = [operation(x) for operation in mixed.operations]
    assert not parts[0].any() and torch.equal(parts[1], x)
    torch.testing.assert_close(mixed(x), sum(w * part for w, part in zip(weights, parts, strict=True)))
    norms = [module for module in mixed.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 2 and not any(norm.affine for norm in norms)


def test_every_parameter_has_a_gradient_even_where_nothing_leads_on():
    network = tiny(cell("nor_conv_3x3", "none", "none", "skip_connect", "none", "none")).train()
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    network(images).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
