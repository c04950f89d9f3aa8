"""The methods beyond means and energy distances, by a plain loop; formations, pixels, turns and what terms
keep from step to step."""

from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from interruption_helpers import stopped_after, until_done
from matching_helpers import ARCH, CPU, HERE, NOWHERE, engine, recipe

from condense import jobs, models, plan, specs
from condense.augment import formations, siamese
from condense.config import UserError, convert, merged
from condense.engines.matching import Matching, run_together
from condense.engines.starts import initial_images
from condense.engines.streams import RealStream
from condense.evaluate.synthetic import load_synthetic
from condense.files.artifacts import file_sha256
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.networks.finished import NetworkBank
from condense.networks.sources import network_source
from condense.specs import catalogue

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def bank(digits, tmp_path_factory):
    """Three finished networks."""
    path = tmp_path_factory.mktemp("bank") / "bank.safetensors"
    protocol = plan.changed_protocol("ncfm_networks", ("test", {"epochs": 2}))
    networks = specs.TrainedNetworks("trained", protocol.name, count=3)
    job = jobs.ParentJob(path, digits / "train.safetensors", **ARCH, seed=0, key="b", machine=HERE)
    jobs.make_trained_bank(job, networks=networks, protocol=protocol, strategy="none")
    return path


def network_of(data, step, seed=0):
    network = models.build(
        ARCH["arch"], channels=data.channels, size=data.size, classes=len(data.counts), **ARCH["options"]
    )
    models.reinitialise(network, seeds.stream(seed, "network", step))
    return network.requires_grad_(False)


def decomposed(network, real, synthetic, neighbours):
    """ddm, eq. (4) to (11), for one class, written down from the paper; the moments averaged over channels,
    as its text has it."""
    loss, weight = 0.0, 5000.0
    real_maps, maps = network.feature_maps(real), network.feature_maps(synthetic)
    for left, right in zip(real_maps, maps, strict=True):
        _, channels, height, width = left.shape
        sides = []
        for images in (left, right):
            means = torch.stack([image.mean((1, 2)) for image in images]).mean(0)
            variances = torch.stack(
                [((image - image.mean((1, 2), keepdim=True)) ** 2).mean((1, 2)) for image in images]
            ).mean(0)
            grams = torch.stack([torch.einsum("ahw,bhw->ab", image, image) for image in images]).mean(0)
            sides.append((means, variances, grams))
        (a, b, c), (d, e, f) = sides
        loss = loss + weight * 0.5 * (((a - d) ** 2).mean() + ((b - e) ** 2).mean())
        loss = loss + weight * ((c - f) ** 2).sum() / (4 * (height * width) ** 2 * channels**2)
    own = network.embed(synthetic)
    loss = loss + ((network.embed(real).mean(0) - own.mean(0)) ** 2).sum()
    for place in range(len(own)):
        others = [other for other in range(len(own)) if other != place]
        nearest = sorted(others, key=lambda other: (own[place] - own[other]).norm().item())[:neighbours]
        mean = torch.stack([own[other] for other in nearest]).mean(0)
        loss = loss - 10.0 * F.kl_div(
            mean.log_softmax(0), own[place].log_softmax(0), reduction="sum", log_target=True
        )
    return loss


def test_ddm_equals_a_plain_loop(train):
    value = recipe("ddm", steps=3, optimizer={"lr": 0.01, "momentum": 0.5})
    found = engine(value, train, (2, 5), ipc=5).run().images
    for place, label in enumerate((2, 5)):
        own = train.of_class(label)
        images = initial_images(train, (label,), 5, "real", 0)[0].requires_grad_(True)
        optimizer = torch.optim.SGD([images], lr=0.01, momentum=0.5)
        for step in range(3):
            network = network_of(train, step)
            order = torch.randperm(len(own), generator=seeds.generator(0, "real-batch", label, step))[:16]
            drawn = siamese.draw(
                value.augment.siamese, train.size, seeds.generator(0, "augment", label, step)
            )
            loss = decomposed(
                network, siamese.apply(own[order], drawn), siamese.apply(images, drawn), neighbours=1
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        torch.testing.assert_close(found[place], images.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["ddm", "datadam_sm", "m3d", "idm"])
def test_a_class_is_the_same_alone_and_with_all(name, train):
    value = recipe(name, steps=6, batch_real=40, optimizer={"lr": 0.01})
    value = replace(value, terms=[term for term in value.terms if term.name != "cross_entropy"])
    value = replace(value, networks=specs.Networks()) if name == "idm" else value
    together = engine(value, train).run().images
    for classes in [(4,), (3, 4, 5)]:
        found, wanted = engine(value, train, classes).run().images, together[list(classes)]
        assert (found - wanted).norm() <= 1e-4 * wanted.norm()


def test_statistics_of_small_classes_leave_the_padding_out(train):
    """Class 0 has 6 images, which the batch of 16 holds once each."""
    kept = torch.cat([torch.arange(6), torch.arange(train.counts[0], len(train))])
    small = replace(
        train, images=train.images[kept], labels=train.labels[kept], counts=(6, *train.counts[1:])
    )
    value = recipe("dm_sm", steps=1)
    alone, beside = (engine(value, small, classes, ipc=1).run().images[0] for classes in ((0,), (0, 1)))
    torch.testing.assert_close(alone, beside, rtol=1e-4, atol=1e-4)


def test_sets_that_share_a_pass_share_its_statistics(train):
    alike = {
        "optimizer": {"lr": 0.01},
        "batch_real": 32,
        "augment": {"siamese": "color_crop_cutout", "mode": "all"},
    }
    values = [recipe(name, **alike) for name in ("dm", "ddm", "datadam_sm", "m3d")]
    stream = RealStream(values[0], train, train.classes, **ARCH, seed=4, device=CPU)
    together = run_together(
        [Matching(value, stream, ipc=3, critic=None, checkpoint=NOWHERE) for value in values]
    )
    for value, found in zip(values, together, strict=True):
        alone = engine(value, train, ipc=3, seed=4).run()
        torch.testing.assert_close(found.images, alone.images, rtol=1e-5, atol=1e-5)


def test_a_set_of_formations_trains_decoded(digits, train, tmp_path):
    value = recipe("idm", steps=2, networks={"batch": 16, "train_steps": 1})
    job = jobs.ShardJob(value, digits / "train.safetensors", **ARCH, ipc=2, seed=0, key="k")
    jobs.condense_shard(tmp_path / "shard.safetensors", job, HERE)
    jobs.gather(
        tmp_path / "synthetic.safetensors", [tmp_path / "shard.safetensors"], digits / "train.safetensors"
    )
    found = load_synthetic(tmp_path / "synthetic.safetensors")
    assert found.header["decode"] == {"factor": 2, "order": "columns"} and len(found) == 10 * 2 * 4
    assert found.labels.bincount().tolist() == [8] * 10 and found.images.shape[1:] == (1, 8, 8)
    stored = engine(value, train, ipc=2).run().images.flatten(0, 1)
    torch.testing.assert_close(
        found.images, formations.decode(stored, specs.Decode(2, "columns")), rtol=1e-4, atol=1e-4
    )


def test_pixels_are_moved_in_their_own_units_and_clipped(train):
    """The gradient of pixels is that of normalised values over the deviation of the channel."""
    terms = [{"name": "mean"}]
    still = {"lr": 0.001, "momentum": 0.0}
    settings = {
        "terms": terms,
        "steps": 1,
        "init": "real",
        "decode": None,
        "optimizer": still | {"class_turns": False},
    }
    settings |= {"augment": {"siamese": "color_crop_cutout", "mode": "one"}}
    start = initial_images(train, train.classes, 1, "real", 0)
    moved = engine(recipe("m3d", clip=False, **settings), train, ipc=1).run().images - start
    plain = engine(recipe("dm", **{**settings, "optimizer": still}), train, ipc=1).run().images - start
    torch.testing.assert_close(moved, plain / train.std[0] ** 2, rtol=1e-3, atol=1e-6)
    far = recipe(
        "m3d", **{**settings, "steps": 3, "optimizer": {"lr": 100.0, "momentum": 0.0, "class_turns": False}}
    )
    run = engine(far, train, ipc=1)
    run.run()
    run.advance(run.stream.at(3))  # clips before it moves
    clipped = run.values.detach().clamp(0, 1)
    assert not torch.equal(clipped, run.values), "it has to leave the range for the test to mean anything"


def test_a_turn_without_a_weight_is_none(train, bank):
    """Nothing moves before it; with momentum the images would end elsewhere."""
    settings = {"optimizer": {"lr": 0.1, "momentum": 0.5, "class_turns": True}, "steps": 3}
    one = recipe("dm", terms=[{"name": "mean"}], **settings)
    two = recipe("dm", terms=[{"name": "mean"}, {"name": "variance", "turn": 1, "weight": 0.0}], **settings)
    found = [engine(value, train, (3,)).run().images for value in (one, two)]
    assert torch.equal(*found)


def test_a_pair_needs_a_real_image_for_every_synthetic_one(train):
    """Formations decode to more images than a class may have."""
    count = train.counts[3]
    value = recipe("dm_kl", init="real", decode={"factor": 2}, batch_real=4 * count)
    with pytest.raises(UserError, match=f"pairs every .* real one, and class 3 .* has {count} of these for"):
        engine(value, train, (3,), ipc=count // 4 + 1)


def test_attention_needs_a_stage_before_the_last(train):
    shallow = recipe("datadam", steps=1)
    stream = RealStream(
        shallow, train, (3,), arch="convnet", options={"depth": 1, "width": 4}, seed=0, device=CPU
    )
    with pytest.raises(UserError, match="attention: looks at all stages of a network but the last"):
        Matching(shallow, stream, ipc=1, critic=None, checkpoint=NOWHERE).run()


def test_a_turn_is_a_step_of_its_own(train, bank):
    """Two turns of one term are two steps against the same real side."""
    settings = {"optimizer": {"lr": 0.1, "momentum": 0.0}, "steps": 1}
    twice = recipe("dm", terms=[{"name": "mean"}, {"name": "mean", "turn": 1}], **settings)
    found = engine(twice, train, (3,)).run().images
    once = engine(recipe("dm", **{**settings, "steps": 2}), train, (3,))
    side = once.stream.at(0)
    once.advance(side)
    once.advance(side)
    torch.testing.assert_close(found, once.images, rtol=1e-5, atol=1e-6)


def of_bank(name, bank, train, **changes):
    value = recipe(name, networks={"count": 3}, optimizer={"lr": 0.01}, **changes)
    value = replace(value, terms=[term for term in value.terms if not term.needs_teacher], teacher=None)
    return RealStream(value, train, train.classes, **ARCH, seed=0, device=CPU, bank=bank), value


@pytest.mark.parametrize("name", ["ncfm", "ncfm_sampler", "dsdm"])
def test_a_run_of_trained_networks_killed_anywhere_ends_the_same(name, bank, digits, tmp_path, monkeypatch):
    """With a rate that falls, a sampler that learns, means that are kept: all of it is in the checkpoints."""
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    changes = {"optimizer": {"lr": 0.01, "plateau": {"patience": 1}}} if name.startswith("ncfm") else {}
    value = recipe(
        name, networks={"count": 3}, steps=6, batch_real=16, **({"optimizer": {"lr": 0.01}} | changes)
    )
    job = jobs.ShardJob(
        value, digits / "train.safetensors", **ARCH, ipc=1, seed=0, key="k", parents={"bank": bank}
    )
    jobs.condense_shard(tmp_path / "whole.safetensors", job, HERE)
    written = stopped_after(monkeypatch, 2)
    until_done(lambda: jobs.condense_shard(tmp_path / "killed.safetensors", job, HERE))
    assert len(written) > 2 and file_sha256(tmp_path / "whole.safetensors") == file_sha256(
        tmp_path / "killed.safetensors"
    )


def test_mixed_networks_lie_between_their_first_draw_and_their_end(bank, train):
    held = NetworkBank(bank, train, **ARCH)
    network = network_of(train, 0)
    settings = specs.TrainedNetworks("trained", "ncfm_networks", count=3)
    source = network_source(settings, network, train, **ARCH, seed=5, bank=bank)
    met = set()
    for step in range(12):
        source.at(step)
        now = source.trained.state_dict()
        ends = [
            number
            for number in range(3)
            if all(torch.equal(held.network(number)[name], now[name]) for name in now)
        ]
        first = network_of(train, 0)
        models.reinitialise(first, seeds.stream(0, "trained", ends[0]))
        shares = []
        for own, start, end in zip(
            network.parameters(), first.parameters(), source.trained.parameters(), strict=True
        ):
            if not torch.equal(start, end):
                shares.append((((own - start) * (end - start)).sum() / (end - start).square().sum()).item())
                torch.testing.assert_close(own, start.lerp(end, shares[-1]), rtol=1e-3, atol=1e-5)
        assert max(shares) - min(shares) < 1e-3 and 0 <= shares[0] <= 1
        met.add(ends[0])
    assert met == {0, 1, 2}


def test_trained_networks_need_a_bank_that_is_large_enough(bank, train):
    network = network_of(train, 0)
    with pytest.raises(UserError, match="make them first .`condense bank --help`"):
        network_source(specs.TrainedNetworks("trained", "ncfm_networks"), network, train, **ARCH, seed=0)
    with pytest.raises(UserError, match="has 3 networks, but 20 are asked for"):
        network_source(
            specs.TrainedNetworks("trained", "ncfm_networks"), network, train, **ARCH, seed=0, bank=bank
        )


def test_a_bank_killed_anywhere_ends_the_same(bank, digits, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    protocol = plan.changed_protocol("ncfm_networks", ("test", {"epochs": 2}))
    networks = specs.TrainedNetworks("trained", protocol.name, count=3)
    save, saves = Checkpoint.save, 0

    def dies(self, *arguments):
        nonlocal saves
        save(self, *arguments)
        saves += 1
        if saves % 2 == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", dies)
    settings = {**ARCH, "seed": 0, "key": "b", "machine": HERE}
    job = jobs.ParentJob(tmp_path / "bank.safetensors", digits / "train.safetensors", **settings)
    for _ in range(9):
        try:
            jobs.make_trained_bank(job, networks=networks, protocol=protocol, strategy="none")
            break
        except KeyboardInterrupt:
            continue
    assert saves > 2 and file_sha256(tmp_path / "bank.safetensors") == file_sha256(bank)


def test_settings_that_cannot_be_are_refused():
    base = asdict(recipe("ncfm"))
    for change, told in [
        ({"couples": []}, "write `couples: \\[classes\\]`"),
        ({"decode": None}, "init: a mosaic has the cells of `decode`"),
        ({"terms": [{"name": "moment"}]}, "unknown value 'moment'; did you mean 'moments'"),
        ({"terms": [{"name": "gram", "power": 2}]}, "unknown key 'power'"),
        (
            {"optimizer": {"lr": 1.0, "class_turns": True, "weight_decay": 0.1}},
            "class_turns: not with a weight_decay",
        ),
        ({"networks": {"kind": "random"}}, "under the trained network needs .*kind: trained"),
        ({"networks": {"kind": "queue"}}, "under the trained network needs .*kind: trained"),
        ({"terms": [{"name": "cross_entropy", "by_accuracy": True}]}, "by accuracy needs .*kind: queue"),
    ]:
        with pytest.raises(UserError, match=told):
            convert(specs.AnyRecipe, base | change, "test")


def test_a_term_that_stands_twice_keeps_two_memories_and_two_names(train, tmp_path, monkeypatch):
    """Two running means of one momentum are the term at twice the weight; of two, each goes its own way, also
    over a stop."""
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    mean = {"name": "historical_mean", "momentum": 0.5}
    twice = engine(recipe("dm", terms=[mean, mean]), train, (0, 1))
    once = engine(recipe("dm", terms=[mean | {"weight": 2.0}]), train, (0, 1))
    torch.testing.assert_close(twice.run().images, once.run().images, rtol=1e-5, atol=1e-6)
    value = recipe("dm", terms=[mean, mean | {"momentum": 0.0}], steps=5)
    whole = engine(value, train, (0, 1))
    whole.run()
    assert list(whole.outcome.history[0]) == ["step", "loss", "historical_mean", "historical_mean 2"]
    assert not torch.equal(whole.memory["historical_mean"]["mean"], whole.memory["historical_mean 2"]["mean"])

    class Stopping(Checkpoint):
        def write(self, tensors, state):
            super().write(tensors, state)
            if state["done"] == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine(value, train, (0, 1), checkpoint=Stopping(tmp_path / "x.resume", "k")).run()
    resumed = engine(value, train, (0, 1), checkpoint=Checkpoint(tmp_path / "x.resume", "k"))
    assert torch.equal(resumed.run().images, whole.images)
    changed = merged(asdict(value), {"terms": {"historical_mean 2": {"momentum": 0.25}}})
    assert [term.momentum for term in convert(specs.AnyRecipe, changed, "test").terms] == [0.5, 0.25]


def test_a_mosaic_needs_an_image_a_cell():
    """Known before anything is made: four real images go into each of IDM's, and the smallest class of the
    digits has 139."""
    maker = plan.Maker(catalogue.scale("quick"))
    assert maker.synthetic("digits", "idm", "convnet", 34, 0).ipc == 34
    with pytest.raises(
        UserError,
        match="ipc 35 asked for, which starts from 140 real images a class, but its smallest class has 139",
    ):
        maker.synthetic("digits", "idm", "convnet", 35, 0)
    assert maker.synthetic("digits", "dm", "convnet", 139, 0).ipc == 139
