"""The engine `matching`: images follow the gradient of a sum of terms, which compare them with real ones under one network a step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from condense import fitting
from condense.config import UserError, labels_of
from condense.costs.profile import CLIP, Profile
from condense.costs.work import FLOAT, Shard, Work, both, pixels_of
from condense.specs.images import ImageRecipe
from condense.specs.networks import AnyNetworks, Networks, QueueNetworks, TrainedNetworks
from condense.specs.recipe import Parent, TeacherNeed
from condense.specs.terms import PAIR_TERMS, TEACHER_TERMS, AnyTerm, CrossEntropy, couples

# Terms that see the synthetic images alone ('barycentre' the real ones once, which does not count among the steps).
_OF_SYNTHETIC = (
    "diversity cross_entropy intra_class_diversity cosine_diversity intra_class_contrast inter_class_margin barycentre".split()
    + list(PAIR_TERMS)
)


@dataclass(frozen=True, kw_only=True)
class MatchingRecipe(ImageRecipe):
    """A recipe of terms over networks that are drawn or trained without the synthetic images."""

    NUMBER: ClassVar[int] = 2
    DESCRIBING: ClassVar[tuple[str, ...]] = (*ImageRecipe.DESCRIBING, "couples")

    engine: Literal["matching"]
    terms: list[AnyTerm]
    networks: AnyNetworks = Networks()
    precision: Literal["fp32", "mixed", "bf16"] = "mixed"  # mixed: the real side, which has no gradient, in bfloat16
    couples: list[Literal["classes"]] = field(default_factory=list)
    teacher: TeacherNeed | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.terms:
            raise UserError("terms: a matching recipe needs at least one")
        needs = any(term.name in TEACHER_TERMS for term in self.terms)
        if needs != (self.teacher is not None):
            raise UserError(f"teacher: {'is needed by its terms' if needs else 'nothing in this recipe uses it'}")
        if "classes" not in self.couples and (self.optimizer.plateau or any(couples(term) for term in self.terms)):
            raise UserError("couples: 'classes' is needed: a term, or the plateau of the optimizer, looks at all classes at once")
        self._check_networks()

    def _check_networks(self) -> None:
        names, networks = {term.name for term in self.terms}, self.networks
        single = isinstance(networks, QueueNetworks) or (isinstance(networks, TrainedNetworks) and networks.count < 2)
        if single and names & set(PAIR_TERMS):
            raise UserError("networks: a term compares two networks a step, which a queue does not give, nor a bank of a single network")
        if "barycentre" in names and not (isinstance(networks, TrainedNetworks) and networks.count == 1 and not networks.mixed):
            raise UserError("networks: 'barycentre' needs one and the same network at all steps: {kind: trained, count: 1, mixed: false}")
        for term in self.terms:
            if isinstance(term, CrossEntropy) and term.by_accuracy and not isinstance(networks, QueueNetworks):
                raise UserError("networks: 'cross_entropy' by accuracy needs networks that are trained as it goes: {kind: queue}")
            if isinstance(term, CrossEntropy) and term.under == "trained" and not isinstance(networks, TrainedNetworks):
                raise UserError("networks: 'cross_entropy' under the trained network needs one beside the step's: {kind: trained}")

    def check_ipc(self, ipc: int) -> None:
        super().check_ipc(ipc)
        if ipc > self.batch_real and any(term.name == "prediction_kl" for term in self.terms):
            raise UserError(
                f"{self.name}: 'prediction_kl' pairs every synthetic image with a real one, but ipc is {ipc} and batch_real only"
                f" {self.batch_real}: raise batch_real to at least {ipc} in the recipe or the scale"
            )

    def parents(self) -> dict[str, Parent]:
        return {**({"teacher": self.teacher} if self.teacher else {}), **self.networks.parents()}

    def splits_by_class(self, ties_batch: bool) -> bool:
        return not ties_batch and "classes" not in self.couples

    @property
    def term_labels(self) -> list[str]:
        """What the terms are called where each of them needs a name of its own, such as in histories; see `labels_of`."""
        return labels_of([term.name for term in self.terms])

    @property
    def stream(self) -> dict[str, Any]:
        """What decides the real side of every step: recipes that agree in it, on the same data, network and seed, can share it."""
        return {name: getattr(self, name) for name in ("engine", "networks", "augment", "batch_real", "precision")}

    def work(self, shard: Shard) -> Work:
        """The steps of the set. The networks are frozen, so a backward pass to the images costs one forward pass."""
        data, network, terms = shard.data, shard.network, {term.name for term in self.terms}
        real, stored = shard.classes * min(self.batch_real, data.train // data.classes), shard.classes * shard.ipc
        synthetic = stored * self.images_a_stored
        turns = len({term.turn for term in self.terms}) + bool(terms & set(PAIR_TERMS))  # which take a pass of their own
        chunk = real if network.ties_batch else min(real, max(1, fitting.CHUNK["cuda" if shard.on_gpu else "cpu"] // data.size**2))
        passes = self._critic_passes(shard)
        critics = sum(critic.forward for critic in passes) * synthetic
        embeds = bool(terms - {*TEACHER_TERMS, "clip_critic"})
        embeds_real = bool(terms - {*TEACHER_TERMS, "clip_critic", *_OF_SYNTHETIC})
        every = synthetic / shard.classes
        paired = bool(terms & {"energy_distance", "kernel_mmd", "characteristic_energy", "covariance", "representative"})
        within = paired or terms & {"diversity", "intra_class_diversity"}
        pairs = (real / shard.classes * every * paired + every**2) * shard.classes if within else 0
        waves = sum(2 * (real + 3 * synthetic) * term.frequencies for term in self.terms if hasattr(term, "frequencies"))
        targets = sum(critic.forward for critic in passes) * synthetic if "prediction_kl" in terms else 0
        kept = network.kept * embeds + sum(critic.kept for critic in passes)
        peak = synthetic * kept + 3 * chunk * network.largest + (3 * real + 6 * synthetic) * pixels_of(data) + network.parameters
        steps, real_steps = self.steps, self.steps * shard.shared
        augments, embeds_real = self.augment.siamese != "none", embeds_real * real_steps
        own = Work(
            flops_forward=embeds_real * real * network.embed + steps * targets,
            # A distance takes a subtraction, a product and a sum a feature; its gradient twice a product and a sum.
            flops_training=steps * (2 * turns * synthetic * network.embed * embeds + 2 * critics + (7 * pairs + waves) * network.features),
            calls_forward=embeds_real * math.ceil(real / chunk) * network.layers,
            calls_training=steps * (network.layers * embeds + sum(critic.layers for critic in passes)),
            parameters_drawn=real_steps * network.parameters,
            draws=real_steps * shard.classes,
            images=(real_steps * real + steps * synthetic) * augments,
            peak_bytes=2 * data.train * pixels_of(data) + peak * FLOAT * (1 + (self.number_of_snapshots > 0)),
            host_bytes=2 * data.train * pixels_of(data) * shard.shared,
        )
        trains = shard.shared and isinstance(self.networks, QueueNetworks) and "bank" not in shard.parents
        return both(own, self.networks.training_work(network, data, self.steps)) if trains else own

    def _critic_passes(self, shard: Shard) -> list[Profile]:
        """The critic's passes over the synthetic images in one step: one for each view of them that a term asks for."""
        seen = {term.sees for term in self.terms if term.name in (*TEACHER_TERMS, "clip_critic")}
        return [shard.parents.get("teacher", CLIP)] * len(seen)
