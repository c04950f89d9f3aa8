"""Where the terms of characteristic functions take their frequencies from, and of which embeddings they
are."""

from dataclasses import replace

import pytest
import torch
from matching_helpers import ARCH, CPU, engine, recipe, tiny

from condense import models, plan, specs
from condense.config import UserError
from condense.discrepancy import frequencies
from condense.discrepancy.characteristic import characteristic_energy
from condense.discrepancy.energy import energy_distance
from condense.engines import characteristic
from condense.engines.streams import RealStream
from condense.engines.terms import objective
from condense.engines.views import Views
from condense.specs import catalogue

sampled = frequencies.sampled


def views_of(value, train, step=0):
    stream = RealStream(value, train, train.classes, **ARCH, seed=0, device=CPU)
    synthetic = torch.stack([train.of_class(label, slice(0, 3)) for label in train.classes]).requires_grad_(
        True
    )
    labels = torch.tensor(train.classes)[:, None].expand(-1, 3)
    return Views(stream.at(step), synthetic, labels, None)


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), 0).item()


def test_characteristic_functions_tell_only_near_points_apart():
    """Why `cfd_cpdm` brings embeddings to length 1: farther apart than about 4, normal frequencies see
    noise."""
    assert catalogue.recipe("cfd_cpdm").terms[0].row_normalised
    rng = torch.Generator().manual_seed(0)
    real, synthetic = (torch.randn(count, 512, generator=rng) + 0.2 for count in (64, 10))  # some 32 apart
    found = {}
    for name in ("near", "far"):
        points = synthetic.clone().requires_grad_(True)
        both = [
            torch.nn.functional.normalize(one, dim=-1) if name == "near" else one for one in (real, points)
        ]
        values = [
            characteristic_energy(*both, torch.randn(1024, 512, generator=rng)),
            characteristic_energy(*both, torch.randn(1024, 512, generator=rng)),
        ]
        values.append(energy_distance(*both))
        found[name] = [torch.autograd.grad(value.sum(), points, retain_graph=True)[0] for value in values]
    assert abs(cosine(*found["far"][:2])) < 0.1 and cosine(*found["near"][:2]) > 0.2
    # And there it moves them as the energy distance does
    assert cosine(found["near"][0], found["near"][2]) > 0.4


def test_the_term_of_length_1_is_that_of_normalised_embeddings(train):
    term, seen = catalogue.recipe("cfd_cpdm").terms[0], views_of(recipe("dm", batch_real=32), train)
    rows = [
        torch.nn.functional.normalize(sample, dim=-1)
        for sample in (seen.real_embedding, seen.synthetic_embedding)
    ]
    wanted = characteristic_energy(*rows, characteristic._normal(seen, term.frequencies))
    torch.testing.assert_close(objective(term.name).value(seen, term), wanted)


def test_ncfm_cpdm_is_the_loop_of_ncfm_around_the_energy_distance_of_equation_10(train):
    """The term against double loops over points, in complex numbers; everything else against NCFM."""
    plain, ours = catalogue.recipe("ncfm"), catalogue.recipe("ncfm_cpdm")
    for name in (
        "init",
        "decode",
        "optimised",
        "clip",
        "networks",
        "augment",
        "optimizer",
        "steps",
        "batch_real",
    ):
        assert getattr(ours, name) == getattr(plain, name), name
    match, critic, calibration = ours.terms
    assert calibration == plain.terms[-1] and match.weight == plain.terms[0].weight
    assert (critic.name, critic.weight.start) == ("classifier_critic", 1.0)
    seen, few = views_of(recipe("dm", batch_real=5), train), replace(match, frequencies=7)
    waves = characteristic._normal(seen, 7).double()
    value = objective(few.name).value(seen, few)
    for place in range(2):
        real, synthetic = (
            torch.nn.functional.normalize(sample[place].detach().double(), dim=-1)
            for sample in (seen.real_embedding, seen.synthetic_embedding)
        )

        def apart(a, b):
            return (torch.exp(1j * (waves @ a)) - torch.exp(1j * (waves @ b))).abs().mean()

        attraction = sum(apart(x, s) for x in real for s in synthetic) / 15
        repulsion = sum(apart(a, b) for a in synthetic for b in synthetic) / 9
        assert value[place].item() == pytest.approx((2 * attraction - repulsion).item(), rel=1e-5)


@pytest.mark.parametrize(("count", "distinct"), [(4096, 256), (40, 3)])
def test_a_learned_sampler_repeats_each_row_sixteen_times(count, distinct, train, monkeypatch):
    seen, found = views_of(recipe("dm", batch_real=32), train), []
    monkeypatch.setattr(
        frequencies,
        "sampled",
        lambda parameters, noise, rows: found.append((noise.shape, rows)) or sampled(parameters, noise, rows),
    )
    term = specs.TERMS["characteristic_function"](
        name="characteristic_function", frequencies=count, sampler="learned"
    )
    characteristic.characteristic_function_term(seen, term)
    assert found == [((distinct, seen.real_embedding.shape[-1]), count)]
    drawn = sampled(seen.memory, torch.randn(found[0][0]), count)
    assert len(drawn) == count and len(drawn.unique(dim=0)) == distinct


def test_the_step_of_the_sampler_goes_along_the_whole_loss(train):
    """Three times the weight, three times the step from the same parameters."""
    moved = []
    for weight in (0.0, 2.0, 6.0):
        seen = views_of(recipe("dm", batch_real=32), train)
        kind = specs.TERMS["characteristic_function"]
        term = kind(name="characteristic_function", frequencies=64, sampler="learned", weight=weight)
        characteristic.characteristic_function_term(seen, term)
        moved.append(torch.cat([tensor.flatten() for tensor in seen.memory.values()]))
    start, once, thrice = moved
    assert (once - start).abs().max() > 1e-5
    torch.testing.assert_close(thrice - start, 3 * (once - start), rtol=1e-2, atol=1e-6)


def test_settings_of_a_learned_sampler_that_cannot_be():
    kind = specs.TERMS["characteristic_function"]
    with pytest.raises(UserError, match="above repeats"):
        kind(name="characteristic_function", frequencies=16, sampler="learned")
    with pytest.raises(UserError, match="a number is needed"):
        kind(name="characteristic_function", sampler="learned", weight=specs.Weight(schedule="linear_decay"))


def test_a_protocol_may_name_its_operations():
    networks = catalogue.protocol("ncfm_networks")
    # Cutout is out beside CutMix
    assert networks.operations_of("color_crop_cutout_flip_scale_rotate") == "color_crop"
    assert networks.operations_of("crop_scale") == "crop" and networks.operations_of("none") == "none"
    assert (
        catalogue.protocol("dc").operations_of("crop_scale") == "crop_scale"
        and catalogue.protocol("critic_plain").operations_of("crop") == "none"
    )
    with pytest.raises(UserError, match="did you mean 'crop'"):
        plan.changed_protocol("ncfm_networks", ("test", {"siamese": "crp"}))


def test_pairs_of_more_images_than_a_batch_are_refused_while_planning(train):
    maker = plan.Maker(catalogue.scale("paper"))
    cell = maker.synthetic("cifar10", "dm_kl", "convnet", 300, 0)
    assert cell.recipe.batch_real >= 300
    with pytest.raises(UserError, match="raise batch_real to at least 300"):
        maker.synthetic("cifar10", "dm_kl", "convnet", 300, 0, {"batch_real": 256})
    critic = models.build("convnet", channels=1, size=8, classes=10, **ARCH["options"])
    with pytest.raises(UserError, match="raise batch_real to at least 3 "):
        engine(tiny("dm_kl", batch_real=2), train, ipc=3, critic=critic)
