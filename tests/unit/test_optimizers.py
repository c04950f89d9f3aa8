"""The optimisers of images against torch's, and against the loops over classes whose course they have."""

import pytest
import torch

from condense.specs import Optimizer, Plateau
from condense.training.image_optimizers import AdamW, Stalling, optimizer_of
from condense.training.optimizers import SGD


def gradients(steps, shape=(3, 4), seed=0):
    return torch.randn(steps, *shape, generator=torch.Generator().manual_seed(seed))


def test_adamw_equals_torch_step_by_step():
    own, theirs = torch.ones(3, 4, requires_grad=True), torch.ones(3, 4, requires_grad=True)
    mine = optimizer_of(own, Optimizer(lr=0.01, name="adamw", weight_decay=0.1, beta1=0.8, beta2=0.99))
    reference = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1, betas=(0.8, 0.99))
    for gradient in gradients(7):
        own.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
        torch.testing.assert_close(own, theirs)


def test_a_plateau_lowers_the_rate_as_torch_does():
    value = torch.zeros(1, requires_grad=True)
    mine = SGD([value], Optimizer(lr=1.0))
    seen = Stalling(mine, Plateau(factor=0.5, patience=2), value.device)
    reference = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(reference, factor=0.5, patience=2)
    for loss in [5.0, 4.0, 4.0, 3.99999, 4.1, 4.2, 3.0, 3.1, 3.2, 3.3, 3.4, 3.5, 3.6, 3.7, 2.0]:
        seen.see(torch.tensor(loss))
        scheduler.step(loss)
        assert float(mine.lr) == pytest.approx(reference.param_groups[0]["lr"])
    assert float(mine.lr) == 0.125, "it has to fall for the comparison to mean anything"


def in_a_loop(start, make, classes, rounds, pull, passes):
    """The loop of the literature: all classes in one tensor under one optimiser of torch, pixels brought back
    at the beginning of a round, a step for one class after the other. What each class was when its gradients
    were taken, and all of them after every round."""
    values = start.clone().requires_grad_(True)
    optimizer, seen, ends = make([values]), [], []
    for _ in range(rounds):
        values.data.clamp_(0, 1)
        for number in range(passes):
            for label in range(classes):
                seen.append(values[label].detach().clone())
                optimizer.zero_grad()
                (pull(number, label, values[label])).backward()
                optimizer.step()
        ends.append(values.detach().clone())
    return seen, ends


TURNS = {
    "sgd": ({"lr": 0.2, "momentum": 0.5}, lambda of: torch.optim.SGD(of, lr=0.2, momentum=0.5)),
    "heavy": ({"lr": 0.05, "momentum": 0.9}, lambda of: torch.optim.SGD(of, lr=0.05, momentum=0.9)),
    "adamw": (
        {"lr": 0.05, "name": "adamw", "weight_decay": 0.1},
        lambda of: torch.optim.AdamW(of, lr=0.05, weight_decay=0.1),
    ),
}


@pytest.mark.parametrize("way", TURNS)
@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("own", [(0, 1, 2, 3), (2,), (1, 3)], ids=str)
def test_steps_in_turns_are_those_of_a_loop_over_all_classes(way, passes, own):
    """For the classes of a job, whichever they are; many pixels leave their bounds on the way."""
    settings, make = TURNS[way]
    start = torch.rand(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    aims = 4 * torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def pull(number, label, value):
        return ((value - aims[number, label]) ** 2).mean()

    seen, ends = in_a_loop(start, make, 4, 6, pull, passes)
    values = start[list(own)].clone().requires_grad_(True)
    mine = optimizer_of(values, Optimizer(class_turns=True, **settings), own, 4)
    outside = 0
    for turn in range(6):
        with torch.no_grad():
            values.clamp_(0, 1)
        for number in range(passes):
            mine.begin()
            for place, label in enumerate(own):
                wanted = seen[(turn * passes + number) * 4 + label]
                torch.testing.assert_close(values[place].detach(), wanted, rtol=1e-10, atol=1e-12)
                outside += int(((wanted < 0) | (wanted > 1)).sum())
            mine.zero_grad()
            sum(pull(number, label, values[place]) for place, label in enumerate(own)).backward()
            mine.step()
        torch.testing.assert_close(values.detach(), ends[turn][list(own)], rtol=1e-10, atol=1e-12)
    assert outside or own == (0,)


@pytest.mark.parametrize("way", TURNS)
def test_steps_in_turns_go_on_from_their_state(way):
    def stepped(optimizer, values, steps):
        for number in range(steps):
            optimizer.begin()
            optimizer.zero_grad()
            ((values - number) ** 3).sum().backward()
            optimizer.step()

    settings = Optimizer(class_turns=True, **TURNS[way][0])
    whole, parts = (torch.full((2, 3), 0.5, requires_grad=True) for _ in range(2))
    stepped(optimizer_of(whole, settings, (1, 2), 3), whole, 4)
    first, second = (optimizer_of(parts, settings, (1, 2), 3) for _ in range(2))
    stepped(first, parts, 2)
    second.load({name: value.clone() for name, value in first.state().items()})
    for number in (2, 3):
        second.begin()
        second.zero_grad()
        ((parts - number) ** 3).sum().backward()
        second.step()
    whole_again = torch.full((2, 3), 0.5, requires_grad=True)
    stepped(optimizer_of(whole_again, settings, (1, 2), 3), whole_again, 4)
    assert torch.equal(whole, whole_again) and torch.equal(whole, parts)


def test_the_state_of_an_optimiser_goes_on_where_it_was():
    settings = Optimizer(lr=0.01, name="adamw", weight_decay=0.1)
    whole = torch.ones(3, 4, requires_grad=True)
    first = AdamW([whole], settings)
    parts = torch.ones(3, 4, requires_grad=True)
    second = AdamW([parts], settings)
    for place, gradient in enumerate(gradients(6)):
        if place == 3:
            kept = {name: value.clone() for name, value in second.state().items()}
            second = AdamW([parts], settings)
            second.load(kept)
        whole.grad, parts.grad = gradient.clone(), gradient.clone()
        first.step()
        second.step()
    assert torch.equal(whole, parts)
