"""Several networks trained at once: each must become what it becomes when it is trained alone."""

import copy
from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from interruption_helpers import Stopping, until_done
from tape_helpers import TapeRecorder
from torch import nn

from condense import kernels, models, specs
from condense.config import UserError, merged, read
from condense.data.dataset import load
from condense.evaluate import protocols
from condense.evaluate.protocols import evaluate
from condense.evaluate.trained import TrainedNetworks, measured_accuracy
from condense.files.checkpoints import Checkpoint
from condense.machine import runtime, seeds
from condense.specs import catalogue
from condense.training.loop import accuracy, layer_type, number_of_epochs, train
from condense.training.optimizers import SGD
from condense.training.sets import pixel_set, tensor_set
from condense.training.stacked import Stacked, can_be_batched, differs, fitting
from condense.training.together import CapturedStep, plain_step, train_together

CPU = torch.device("cpu")
NOWHERE = Checkpoint(None, "")
ALL = "color_crop_cutout_flip_scale_rotate"
NAMES = [("evaluation", number) for number in range(3)]
SMALL = {"depth": 2, "width": 8}
pytestmark = pytest.mark.usefixtures("one_thread")


def protocol(name="dc", **changes):
    return read(
        specs.Protocol,
        merged(asdict(catalogue.protocol(name)), {"epochs": 4, "batch": 16, "precision": "fp32"} | changes),
        "test",
    )


@pytest.fixture(scope="module")
def few(digits):
    """Forty training images, four a class, as a training set, and the test images."""
    data = load(digits / "train.safetensors")
    chosen = torch.cat(
        [torch.arange(start, start + 4) for start in np.cumsum([0, *data.counts[:-1]]).tolist()]
    )
    return tensor_set(data.normalise(data.images[chosen]), data.labels[chosen]), load(
        digits / "test.safetensors"
    )


def networks(arch="convnet", count=3, dtype=torch.float32, size=8, channels=1, **options):
    built = [
        models.build(arch, channels=channels, size=size, classes=10, **options).to(dtype)
        for _ in range(count)
    ]
    for number, network in enumerate(built):
        models.reinitialise(network, seeds.stream(0, "evaluation", number))
    return built


def assert_same(stacked, alone, **tolerance):
    for place, network in enumerate(alone):
        taken = copy.deepcopy(network)
        stacked.copy_to(place, taken)
        for name, value in network.state_dict().items():
            torch.testing.assert_close(
                taken.state_dict()[name], value, **tolerance, msg=lambda text, name=name: f"{name}: {text}"
            )


ARCHITECTURES = {
    "convnet": {"arch": "convnet", **SMALL},
    "batch norm": {"arch": "convnet_bn", **SMALL},
    "layer norm": {"arch": "convnet_ln", **SMALL},
    "maxima": {"arch": "convnet_max", **SMALL},
    "mlp": {"arch": "mlp", "width": 16},
}
RULES = {
    "dc": ("dc", {}),
    "step": ("plain_networks", {"augment": "dataset"}),
    "constant, one batch": ("dc", {"schedule": {"kind": "constant"}, "batch": 64}),
    "plain images": ("plain_networks", {}),
}


@pytest.mark.parametrize("options", ARCHITECTURES.values(), ids=ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_network_becomes_what_it_becomes_alone(few, options, dtype):
    """Batches of 16, 16 and 8 under every augmentation; to float order, which float64 shows to be all that
    differs."""
    images = tensor_set(few[0].fetch(torch.arange(40)).to(dtype), few[0].labels)
    alone, settings = networks(**options, dtype=dtype), {"strategy": ALL, "seed": 3, "checkpoint": NOWHERE}
    stacked = Stacked(alone)
    train_together(stacked, images, protocol(), names=NAMES, **settings)
    for network, name in zip(alone, NAMES, strict=True):
        train(network, images, protocol(), name=name, **settings)
    assert_same(
        stacked,
        alone,
        **({"rtol": 1e-3, "atol": 2e-5} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-12}),
    )
    if dtype == torch.float32:
        test = pixel_set(few[1], CPU)
        together = measured_accuracy(test, TrainedNetworks(stacked, torch.float32))["accuracy"]
        assert together == pytest.approx([accuracy(network, test) for network in alone], abs=0.6)


@pytest.mark.parametrize("case", RULES)
def test_every_schedule_is_that_of_a_network_alone(few, case):
    name, changes = RULES[case]
    rules, alone = protocol(name, **changes), networks(dtype=torch.float64, **SMALL)
    images = tensor_set(few[0].fetch(torch.arange(40)).double(), few[0].labels)
    settings = {"strategy": ALL, "seed": 0, "checkpoint": NOWHERE}
    stacked, heard = Stacked(alone), []
    train_together(stacked, images, rules, names=NAMES, progress=heard.append, **settings)
    for network, address in zip(alone, NAMES, strict=True):
        train(network, images, rules, name=address, **settings)
    assert_same(stacked, alone, rtol=1e-9, atol=1e-12)
    assert heard == list(range(1, number_of_epochs(rules, 40) + 1))


LARGER = {
    "lenet": {"arch": "lenet", "size": 16},
    "alexnet": {"arch": "alexnet", "size": 16, "width": 8},
    "vgg": {"arch": "vgg11", "size": 32, "width": 8},
    "resnet": {"arch": "resnet18", "width": 4, "size": 16},
    "bottlenecks": {"arch": "resnet50", "width": 4, "size": 16},
    "pooled resnet": {"arch": "resnet10_ap", "width": 4, "enlarge": 16},
    "wide resnet": {"arch": "wrn_16_2", "width": 8, "size": 16},
    "mobile": {"arch": "mobilenet_v2", "width": 8, "size": 16},
    "groups": {"arch": "convnet_gn", "width": 8, "size": 16},
    "no norm": {"arch": "convnet_nonorm", "width": 8, "act": "swish"},
}


@pytest.mark.parametrize("options", LARGER.values(), ids=LARGER)
def test_gradients_and_logits_are_those_of_each_network(options):
    """One step without momentum shows the gradients; in colour, so that channels that mix would be seen."""
    alone = networks(**options, count=2, channels=3, dtype=torch.float64)
    stacked, size = Stacked(alone), options.get("size", 8)
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(2, 5, 3, size, size, generator=rng, dtype=torch.float64)
    labels = torch.randint(10, (2, 5), generator=rng)
    rules = specs.Optimizer(lr=0.1, momentum=0.0)
    losses = plain_step(stacked, SGD(list(stacked.parameters()), rules), torch.float32, CPU)(images, labels)
    for place, network in enumerate(alone):
        loss = F.cross_entropy(network(images[place]), labels[place])
        loss.backward()
        SGD(list(network.parameters()), rules).step()
        torch.testing.assert_close(losses[place], loss.detach())
    # Norms over maps of a pixel or two magnify rounding.
    assert_same(stacked, alone, rtol=1e-5, atol=1e-7)
    stacked.eval()
    torch.testing.assert_close(stacked(images[0])[1], alone[1].eval()(images[0]), rtol=1e-5, atol=1e-6)


def test_dropout_masks_differ_between_networks_and_are_repeated_by_the_seed():
    one = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))
    stacked = Stacked([one, one])
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(stacked(torch.ones(2, 1, 1, 8, 8)))
    assert not torch.equal(outputs[0][0], outputs[0][1]) and torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_what_can_be_batched_is_told_by_the_layers():
    with torch.device("meta"):
        sizes = {
            name: {"enlarge": 224} if name.startswith(("tv_", "deit")) else {}
            for name in models.architecture_names()
        }
        found = {
            name: can_be_batched(models.build(name, channels=3, size=64, classes=10, **more))
            for name, more in sizes.items()
        }
    refused = {name for name, batched in found.items() if not batched}
    assert refused == {
        "vit",
        "deit_tiny",
        "shufflenet_v2_x0_5",
        *(name for name in found if name.startswith("tv_")),
    }
    assert not can_be_batched(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")))
    with pytest.raises(ValueError, match="VisionTransformer"):
        Stacked(networks("vit", depth=1, dim=8, heads=1))


def test_layers_computed_in_bfloat16_stay_close_to_those_of_networks_alone(few):
    alone = networks(**SMALL)
    stacked, images = Stacked(alone), few[0].fetch(torch.arange(40))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        together = stacked(images)
        for place, network in enumerate(alone):
            torch.testing.assert_close(together[place], network(images), rtol=0, atol=0.02)
    assert together.dtype == torch.float32
    rules = protocol(precision="mixed")
    assert layer_type(stacked, rules, CPU) == layer_type(alone[0], rules, CPU)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_training_resumed_after_every_epoch_gives_the_same_bytes(few, tmp_path, monkeypatch, norm):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    settings, start = {"strategy": ALL, "seed": 0, "names": NAMES}, networks(norm=norm, **SMALL)
    whole = Stacked(start)
    train_together(whole, few[0], protocol(), **settings, checkpoint=NOWHERE)

    def go():
        stacked = Stacked(start)
        train_together(
            stacked, few[0], protocol(), **settings, checkpoint=Stopping(tmp_path / "x.resume", "k")
        )
        return stacked

    calls, broken = until_done(go)
    assert calls == number_of_epochs(protocol(), 40)
    assert all(torch.equal(value, broken.state_dict()[name]) for name, value in whole.state_dict().items())


def test_a_loss_that_is_lost_is_an_error(few):
    with pytest.raises(UserError, match="loss is .* after epoch .*learning rate"):
        rules = protocol(optimizer={"lr": 1e12})
        train_together(
            Stacked(networks(**SMALL)),
            few[0],
            rules,
            strategy="none",
            seed=0,
            names=NAMES,
            checkpoint=NOWHERE,
        )


def judge(few, count, checkpoint=NOWHERE, rules=None, arch="convnet", **changes):
    settings = {"arch": arch, "options": SMALL, "strategy": ALL, "seed": 0, "device": CPU} | changes
    return evaluate(
        few[0], few[1], rules or protocol(epochs=8), **settings, networks=range(count), checkpoint=checkpoint
    )


def test_an_evaluation_at_once_is_the_one_after_another(few):
    """Five networks, two at a time and the last alone; an image of 360 is 0.28 percent."""
    alone = judge(few, 5)
    assert judge(few, 5, at_once=2) == pytest.approx(alone, abs=0.6) == judge(few, 5, at_once=5)
    assert len(set(alone)) > 1


def test_accuracies_at_once_and_one_after_another_have_one_distribution(few):
    """Other seeds, longer training: the means of ten lie within two standard deviations of each other."""
    rules = protocol(epochs=30, batch=64, optimizer={"lr": 0.1})
    together = np.array(judge(few, 10, rules=rules, at_once=10, seed=1))
    alone = np.array(judge(few, 10, rules=rules, seed=2))
    assert min(together.min(), alone.min()) > 50
    assert abs(together.mean() - alone.mean()) < 2 * min(together.std(), alone.std())


def test_networks_that_cannot_be_batched_are_judged_one_after_another(few):
    options = {
        "arch": "vit",
        "options": {"depth": 1, "dim": 8, "heads": 1, "head_dim": 4, "mlp": 8},
        "rules": protocol(epochs=1),
    }
    assert judge(few, 2, at_once=2, **options) == judge(few, 2, **options)


def test_networks_that_would_be_others_at_once_are_trained_alone(few, monkeypatch):
    monkeypatch.setattr(runtime, "_notes", [])
    forward, alone = Stacked.forward, judge(few, 3, at_once=1)
    monkeypatch.setattr(Stacked, "forward", lambda stacked, images: forward(stacked, images.roll(1, -1)))
    assert judge(few, 3, at_once=3) == alone
    (said,) = runtime._notes
    assert (
        said
        == "3 networks of an evaluation are not trained at once, but 1: network 0 gives other values before "
        "a step"
    )


def test_fewer_networks_are_trained_at_once_where_the_memory_does_not_suffice(few, monkeypatch):
    monkeypatch.setattr(runtime, "_notes", [])
    train_all, sizes = protocols.train_together, []

    def small_memory(networks, *arguments, **named):
        sizes.append(networks.count)
        if networks.count > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        train_all(networks, *arguments, **named)

    wanted = judge(few, 5, at_once=2)
    monkeypatch.setattr(protocols, "train_together", small_memory)
    assert judge(few, 5, at_once=5) == wanted and sizes == [5, 2, 2]
    assert runtime._notes == [
        "5 networks of an evaluation are not trained at once, but 2: the memory of the device does not "
        "suffice"
    ]


@pytest.mark.parametrize(
    ("arch", "dtype", "rounding"),
    [(arch, torch.float64, 1e-10) for arch in ("convnet", "convnet_bn", "alexnet", "vgg11")]
    # VGG's last norms, over 2 x 2 values, make 1e-4 and more of float32's rounding in one network of ten
    + [(arch, torch.float32, 1e-4) for arch in ("convnet", "convnet_bn", "alexnet")],
)
def test_networks_at_once_agree_with_each_alone(arch, dtype, rounding, few):
    options = {"depth": 2, "width": 8} if arch.startswith("convnet") else {"enlarge": 32, "width": 8}
    drawn = networks(arch=arch, dtype=dtype, **options)
    images, labels = few[0].fetch(torch.arange(6)).to(dtype), few[0].labels[:6]
    stacked, states = (
        Stacked(drawn),
        [{name: value.clone() for name, value in network.state_dict().items()} for network in drawn],
    )
    assert differs(stacked, drawn, images, labels, rounding) == ""
    for network, state in zip(drawn, states, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items()), (
            "copies are worked on"
        )
    with torch.no_grad():
        weight = next(stacked.parameters())
        weight.copy_(weight.flip(-1))
    assert differs(stacked, drawn, images, labels, 1e-2).startswith(
        "network 0 gives other values before a step"
    )


def test_an_evaluation_at_once_resumed_anywhere_gives_the_same_accuracies(few, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    rules = protocol(epochs=2)
    calls, found = until_done(
        lambda: judge(few, 4, Stopping(tmp_path / "x.resume", "k"), rules=rules, at_once=2)
    )
    assert calls == 2 * 2 + 1 + 1  # after each epoch but a group's last, after each group but the last
    assert found == judge(few, 4, rules=rules, at_once=2)
    assert [path.name for path in tmp_path.iterdir()] == ["x.resume"]


def test_the_number_that_fits_follows_from_memory():
    """An MLP of 64 - 16 - 16 - 10: 1482 parameters; outputs of the layers for one image 64 (enlarge) + 64 + 4
    x 16 + 10."""
    network = models.build("mlp", channels=1, size=8, classes=10, width=16)
    each = 4 * (5 * 1482 + 2 * 20 * (64 + 64 + 4 * 16 + 10))
    image = torch.zeros(1, 8, 8)
    assert [fitting(network, image, 20, 2 * times * each) for times in (0.1, 1, 7.9, 8)] == [1, 1, 7, 8]


def test_a_captured_step_is_replayed_for_its_size_and_rate(few):
    sizes, rates = [16, 8, 16, 8, 16, 16, 8, 4], [0.1] * 4 + [0.01] * 4
    rng, both = torch.Generator().manual_seed(0), []
    batches = [
        (torch.randn(3, size, 1, 8, 8, generator=rng), torch.randint(10, (3, size), generator=rng))
        for size in sizes
    ]
    recorder = TapeRecorder()
    for captured in (False, True):
        stacked = Stacked(networks(**SMALL))
        optimizer = SGD(list(stacked.parameters()), specs.Optimizer(lr=0.1, momentum=0.9))
        plain = plain_step(stacked, optimizer, torch.float32, CPU)
        changing = [*stacked.parameters(), *optimizer.velocity]
        step = CapturedStep(plain, optimizer, recorder, changing, torch.float32) if captured else plain
        with kernels.plain():  # as on a GPU
            for (images, labels), rate in zip(batches, rates, strict=True):
                optimizer.lr = rate
                losses = step(images, labels)
        both.append([losses, *stacked.parameters()])
    # Two sizes at two rates; the third size was met once, and so done plainly
    assert (recorder.plain, recorder.captures) == (3, 4)
    assert all(torch.equal(a, b) for a, b in zip(*both, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("options", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_on_a_gpu_every_network_becomes_what_it_becomes_alone(few, options):
    device = torch.device("cuda")
    images = tensor_set(few[0].fetch(torch.arange(40)).double().to(device), few[0].labels.to(device))
    alone = [network.to(device) for network in networks(**options, dtype=torch.float64)]
    stacked, settings = Stacked(alone), {"strategy": ALL, "seed": 3, "checkpoint": NOWHERE}
    train_together(stacked, images, protocol(epochs=8), names=NAMES, **settings)
    for network, name in zip(alone, NAMES, strict=True):
        train(network, images, protocol(epochs=8), name=name, **settings)
    assert_same(stacked, alone, rtol=1e-7, atol=1e-9)
