"""The optimisers of images against torch's, and against the loops over classes whose course they have."""

import pytest
import torch

from condense.specs import Optimizer, Plateau
from condense.training.optimizers import SGD, AdamW, Stalling, in_turns, optimizer_of


def gradients(steps, shape=(3, 4), seed=0):
    return torch.randn(steps, *shape, generator=torch.Generator().manual_seed(seed))


def test_adamw_equals_torch_step_by_step():
    own, theirs = torch.ones(3, 4, requires_grad=True), torch.ones(3, 4, requires_grad=True)
    mine = optimizer_of([own], Optimizer(lr=0.01, name="adamw", weight_decay=0.1, beta1=0.8, beta2=0.99))
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


@pytest.mark.parametrize("classes", [1, 3, 10])
def test_sgd_in_turns_has_the_course_of_a_loop_over_classes(classes):
    """The loop's optimiser holds all classes; every step has the gradient of one of them, and zeros for the
    others."""
    settings, pull = Optimizer(lr=0.1, momentum=0.5), 0.3
    theirs = torch.ones(classes, 2, requires_grad=True)
    loop = torch.optim.SGD([theirs], lr=0.1, momentum=0.5)
    own = torch.ones(classes, 2, requires_grad=True)
    mine = optimizer_of([own], Optimizer(lr=0.1, momentum=0.5, class_turns=True), classes)
    assert isinstance(mine, SGD) and mine.settings == in_turns(settings, classes)
    for _ in range(5):
        before = own.detach().clone()
        for label in range(classes):
            # Where its gradient is taken
            torch.testing.assert_close(theirs[label], before[label], rtol=1e-5, atol=1e-6)
            theirs.grad = torch.zeros_like(theirs)
            theirs.grad[label] = pull * theirs[label].detach()
            loop.step()
        own.grad = pull * own.detach()
        mine.step()


@pytest.mark.parametrize("classes", [1, 4])
def test_adamw_in_turns_has_the_course_of_a_loop_over_classes(classes):
    """The last class of the loop begins after steps without a gradient, as here the first: so its course is
    compared, from its turn on."""
    theirs, own = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    loop = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.0005)
    mine = optimizer_of(
        [own], Optimizer(lr=0.01, name="adamw", weight_decay=0.0005, class_turns=True), classes
    )
    assert isinstance(mine, AdamW)
    for gradient in gradients(4, (2,)):
        for turn in range(classes):
            theirs.grad = gradient.clone() if turn == 0 else torch.zeros(2)
            loop.step()
        own.grad = gradient.clone()
        mine.step()
        torch.testing.assert_close(own, theirs)


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
