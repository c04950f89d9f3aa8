"""The engine `matching`: images follow the gradient of a sum of terms, which compare them with real ones
under one network a step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from condense.config import UserError, labels_of, naming
from condense.machine import fitting
from condense.specs.common import unused
from condense.specs.costs.profile import CLIP
from condense.specs.costs.work import FLOAT, Shard, Work, both, pixels_of
from condense.specs.images import ImageRecipe
from condense.specs.networks import AnyNetworks, Networks
from condense.specs.parent import Parent, TeacherNeed
from condense.specs.terms import AnyTerm


@dataclass(frozen=True, kw_only=True)
class MatchingRecipe(ImageRecipe):
    """A recipe of terms over networks that are drawn or trained without the synthetic images."""

    NUMBER: ClassVar[int] = 2
    can_require: ClassVar[tuple[str, ...]] = ("clip",)
    DESCRIBING: ClassVar[tuple[str, ...]] = (*ImageRecipe.DESCRIBING, "couples")

    engine: Literal["matching"]
    terms: list[AnyTerm]
    networks: AnyNetworks = Networks()
    # mixed: the real side, which has no gradient, in bfloat16
    precision: Literal["fp32", "mixed", "bf16"] = "mixed"
    couples: list[Literal["classes"]] = field(default_factory=list)
    teacher: TeacherNeed | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.terms:
            raise UserError("terms: a matching recipe needs at least one")
        needs = any(term.needs_teacher for term in self.terms)
        if needs != (self.teacher is not None):
            raise UserError(
                "teacher: its terms need a pretrained classifier: name the protocol that trains it, such as "
                "`teacher: {protocol: critic}`"
                if needs
                else "teacher: nothing in this recipe uses it; leave it out"
            )
        if "classes" not in self.couples and (
            self.optimizer.plateau or any(term.couples for term in self.terms)
        ):
            raise UserError(
                "couples: a term, or the plateau of the optimizer, looks at all classes at once: write "
                "`couples: [classes]`"
            )
        self._check_critic()
        if self.mirrored and (paired := [term.name for term in self.terms if term.in_order]):
            raise UserError(
                f"mirrored: the term '{paired[0]}' gives every image a real partner, and "
                "mirror images have none"
            )
        if not any(term.sees_network for term in self.terms):
            unused(self, ("networks",), "none of its terms sees the network of a step")
        for term in self.terms:
            term.check_networks(self.networks)

    def _check_critic(self) -> None:
        required = next((term.requires for term in self.terms if term.requires), None)
        if required != self.requires:
            told = (
                f"its terms need '{required}': name it here" if required else "nothing in this recipe uses it"
            )
            raise UserError(f"requires: {told}")
        if required and self.teacher is not None:
            raise UserError(
                f"terms: all terms of a set ask one critic, so a pretrained classifier and '{required}' "
                "exclude each other"
            )

    def check_ipc(self, ipc: int) -> None:
        super().check_ipc(ipc)
        for term in self.terms:
            with naming(self.name):
                term.check_batch(self.batch_real, ipc * self.images_matched)

    def parents(self) -> dict[str, Parent]:
        return {**({"teacher": self.teacher} if self.teacher else {}), **self.networks.parents()}

    @property
    def networks_before(self) -> int:
        return self.networks.before

    @property
    def few_before(self) -> int:
        return self.networks.few

    def trained_for(self, networks: int | None, epochs: int | None) -> dict[str, Any]:
        change = self.networks.trained_for(networks, epochs)
        return {"networks": change} if change else {}

    @property
    def classes_apart(self) -> bool:
        return "classes" not in self.couples

    @property
    def term_labels(self) -> list[str]:
        """What the terms are called where each of them needs a name of its own, such as in histories; see
        `labels_of`."""
        return labels_of([term.name for term in self.terms])

    @property
    def stream(self) -> dict[str, Any]:
        """What decides the real side of every step: recipes that agree in it, on the same data, network and
        seed, can share it."""
        return {
            name: getattr(self, name) for name in ("engine", "networks", "augment", "batch_real", "precision")
        }

    def work(self, shard: Shard) -> Work:
        """The steps of the set. The networks are frozen, so a backward pass to the images costs one forward
        pass."""
        data, network, terms = shard.data, shard.network, self.terms
        real, stored = (
            shard.classes * min(self.batch_real, data.train // data.classes),
            shard.classes * shard.ipc,
        )
        synthetic = stored * self.images_matched
        # second networks take a pass of their own
        passes = len({term.pass_of for term in terms}) + any(term.pairs for term in terms)
        chunk = (
            real
            if network.ties_batch
            else min(real, max(1, fitting.CHUNK["cuda" if shard.on_gpu else "cpu"] // data.size**2))
        )
        critic = shard.parents.get("teacher", CLIP)
        seen = [side for side, _ in set().union(*(term.critic_passes for term in terms))]
        critics, targets = seen.count("synthetic"), seen.count("real")
        embeds = any(term.sees_network for term in terms)
        embeds_real = any(term.sees_network and term.sees_real for term in terms)
        # Of distances those of the term that takes most.
        pairs = shard.classes * max(
            term.distances(real / shard.classes, synthetic / shard.classes) for term in terms
        )
        waves = sum(2 * (real + 3 * synthetic) * term.waves for term in terms)
        kept = network.kept * embeds + critic.kept * critics
        peak = (
            synthetic * kept
            + 3 * chunk * network.largest
            + (3 * real + 6 * synthetic) * pixels_of(data)
            + network.parameters
        )
        steps, real_steps = self.steps, self.steps * shard.shared
        augments, embedding_steps = self.augment.siamese != "none", embeds_real * real_steps
        matching_work = Work(
            flops_forward=embedding_steps * real * network.embed
            + steps * targets * critic.forward * synthetic
            + steps * synthetic * network.embed * any(term.looks_back for term in terms),
            # A distance takes a subtraction, a product and a sum a feature; its gradient twice a product and
            # a sum.
            flops_training=steps * (7 * pairs + waves) * network.features,
            flops_moving=steps
            * (2 * synthetic * (passes * network.embed * embeds + critics * critic.forward)),
            calls_forward=embedding_steps * math.ceil(real / chunk) * network.layers,
            calls_training=steps * (network.layers * embeds + critic.layers * critics),
            parameters_drawn=real_steps * network.parameters,
            draws=real_steps * shard.classes,
            images=(real_steps * real + steps * synthetic) * augments,
            peak_bytes=2 * data.train * pixels_of(data) + peak * FLOAT * (1 + (self.number_of_snapshots > 0)),
            host_bytes=2 * data.train * pixels_of(data) * shard.shared,
        )
        made = shard.parents.keys() & self.networks.parents().keys()
        return (
            matching_work
            if made or not shard.shared
            else both(matching_work, self.networks.training_work(network, data, self.steps))
        )
