"""Expert subspace projection: parameters brought towards the span of training trajectories.

Source: discrepancy, section 5.2.2 (Ma et al. 2023).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from condense import models
from condense.machine import seeds
from condense.networks.finished import NetworkBank

_LEAST = 1e-6  # of the greatest singular value: less is rounding, and no direction of its own


def flat(network: nn.Module) -> Tensor:
    """All parameters of a network one after the other, (P,), without gradient."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])


def put(network: nn.Module, point: Tensor) -> None:
    """Gives a network the parameters of a point (P,), in place."""
    parameters = list(network.parameters())
    with torch.no_grad():
        for parameter, values in zip(
            parameters, point.split([parameter.numel() for parameter in parameters]), strict=True
        ):
            parameter.copy_(values.view(parameter.shape))


def trajectories(network: nn.Module, bank: NetworkBank, count: int) -> Tensor:
    """The parameters of the first `count` networks of a bank and of their first draws: (2 count, P), on the
    device of `network`."""
    twin = copy.deepcopy(network)
    points = []
    for number in range(count):
        models.reinitialise(twin, seeds.stream(bank.seed, "trained", number))
        points.append(flat(twin))
        twin.load_state_dict(bank.network(number))
        points.append(flat(twin))
    return torch.stack(points)


def span(points: Tensor) -> Tensor:
    """An orthonormal basis (r, P), float64, of the linear span of points (n, P)."""
    _, sizes, rows = torch.linalg.svd(points.double(), full_matrices=False)
    return rows[sizes > _LEAST * sizes[0]]


def towards_span(point: Tensor, basis: Tensor, threshold: float) -> Tensor:
    """A point (P,) whose residual off the span of `basis` (r, P) is soft-thresholded, its projection staying
    as it is: (P,).

    The step of proximal descent for threshold * L_proj, the l1 norm of the residual: every entry of the
    residual comes nearer to 0 by `threshold` and ends there. What thresholding brings back into the span, of
    r dimensions among P, is left: so this is the proximal point where the span holds none of it
    (such as for axes), and near to it otherwise. Units of the threshold: those of the parameters.
    """
    exact = point.double()
    projected = (basis @ exact) @ basis
    return (projected + torch.nn.functional.softshrink(exact - projected, threshold)).to(point.dtype)
