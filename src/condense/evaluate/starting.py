"""Networks that begin their training somewhere else than at a new draw."""

from __future__ import annotations

from torch import Tensor, nn

State = dict[str, Tensor]


class Started(nn.Module):
    """A network whose first draw is the weights and running statistics that it came with."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        state = state_of(network)
        self._state = lambda: state  # which copies of the network share

    def reset_parameters(self) -> None:
        """See `models.reinitialise`."""
        self.network.load_state_dict(self._state())

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, c, h, w)."""
        logits: Tensor = self.network(images)
        return logits


def state_of(network: nn.Module) -> State:
    """Copies, on the CPU, of its weights and running statistics."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
