"""The true accuracies of networks of a space, as a task asks for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from condense.specs.parent import P, PlannedData, Planning
from condense.specs.protocol import Protocol
from condense.specs.spaces import space_of


@dataclass(frozen=True)
class TruthNeed:
    """So many networks of a space, each trained by `protocol` on the whole training set, or on so many
    `images` of it, and tested; or what a published benchmark says of them."""

    made_as: ClassVar[str] = "truth"
    needed: ClassVar[bool] = True
    what: ClassVar[str] = "the true accuracies of the networks"
    making: ClassVar[str] = "`condense parent --help` says how, of the kind 'truth'"

    protocol: str
    candidates: int
    draw: int = 0
    networks: int = 1
    images: int | None = None

    def cell(self, plan: Planning[P], data: PlannedData, arch: str, seed: int, steps: int) -> P | None:
        """The accuracies; those of one draw serve the sets of all seeds. Raises UserError for an architecture
        that is no space, and for more networks than it has."""
        space = space_of(arch)
        space.check(self.candidates)
        settings: dict[str, Any] = {
            "candidates": self.candidates,
            "draw": self.draw,
            "networks": self.networks,
            "images": self.images,
            "table": space.table_for(data.name),
        }
        settings |= {"protocol": plan.protocol(self.protocol), "strategy": data.spec.strategy}
        return plan.parent(self.made_as, data, arch, **settings)


def told_of_truth(
    candidates: int, networks: int, images: int | None, benchmark: str, protocol: Protocol
) -> str:
    """Where true accuracies come from, in a line: of a published `benchmark`, or measured ('')."""
    if benchmark:
        return f"true accuracies of {candidates} networks are the published ones of {benchmark}"
    of_images = f"{images:,} of the training images" if images else "all training images"
    each = "" if networks == 1 else f", {networks} of each"
    return (
        f"true accuracies of {candidates} networks{each} were measured here: {protocol.epochs} epochs of "
        f"'{protocol.name}' on {of_images}"
    )
