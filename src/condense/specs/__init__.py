"""What the YAML files under `params/` may say: recipes, protocols, scales, table and figure specs.

Floor 0. Names that become functions elsewhere (terms, selections, inits) are listed here, so that a misspelt
one is refused before any job starts; a test compares these lists with the registries of the floors above.
"""

from condense.specs.common import AUGMENTATIONS, Optimizer, Plateau, Source, cut_to, groups_of
from condense.specs.engines import ENGINES, AnyRecipe
from condense.specs.figures import FigureSpec, StyleDrift
from condense.specs.gradient import GradientRecipe
from condense.specs.images import Augment, Decode, ImageRecipe, MovedRecipe
from condense.specs.labels import AnyLabels, ObserverLabels
from condense.specs.matching import MatchingRecipe
from condense.specs.networks import (
    AnyNetworks,
    Networks,
    QueueNetworks,
    SubspaceNetworks,
    TrainedBefore,
    TrainedNetworks,
    TrajectoryNetworks,
)
from condense.specs.parent import TeacherNeed
from condense.specs.patches import Patches, PatchesRecipe
from condense.specs.points import Point, Printed
from condense.specs.protocol import DEFAULT_PROTOCOL, Protocol, number_of_epochs
from condense.specs.recipe import Recipe
from condense.specs.scale import STAGES, Resources, Scale, TableLimits
from condense.specs.schedules import AnySchedule
from condense.specs.selection import SELECTIONS, Covering, SelectionRecipe
from condense.specs.settings import SettingsSpec
from condense.specs.statistics import StatisticsRecipe
from condense.specs.tables import KINDS_OF_TABLES, AnyTable, TableSpec
from condense.specs.tasks import (
    ACCURACY,
    DEFAULT_TASK,
    Accuracy,
    AnyTask,
    Continual,
    Drift,
    Metric,
    Snapshots,
    Task,
    task_class,
)
from condense.specs.term import Term, Weight
from condense.specs.terms import TERMS, AnyTerm
from condense.specs.training import (
    AnyLoss,
    AnyMixing,
    AnyNetworkOptimizer,
    HardLoss,
    NetworkAdam,
    NetworkSGD,
    WeightAverage,
)
from condense.specs.truth import TruthNeed
from condense.specs.views import AnyView
from condense.specs.workflow import WorkflowSettings, workflow_settings

__all__ = [
    "ACCURACY",
    "AUGMENTATIONS",
    "DEFAULT_PROTOCOL",
    "DEFAULT_TASK",
    "ENGINES",
    "KINDS_OF_TABLES",
    "SELECTIONS",
    "STAGES",
    "TERMS",
    "Accuracy",
    "AnyLabels",
    "AnyLoss",
    "AnyMixing",
    "AnyNetworkOptimizer",
    "AnyNetworks",
    "AnyRecipe",
    "AnySchedule",
    "AnyTable",
    "AnyTask",
    "AnyTerm",
    "AnyView",
    "Augment",
    "Covering",
    "Decode",
    "Drift",
    "FigureSpec",
    "GradientRecipe",
    "ImageRecipe",
    "MatchingRecipe",
    "HardLoss",
    "Metric",
    "MovedRecipe",
    "NetworkAdam",
    "NetworkSGD",
    "Networks",
    "ObserverLabels",
    "Optimizer",
    "Patches",
    "PatchesRecipe",
    "Plateau",
    "Point",
    "Printed",
    "Protocol",
    "QueueNetworks",
    "Recipe",
    "Resources",
    "Scale",
    "SelectionRecipe",
    "SettingsSpec",
    "Continual",
    "Snapshots",
    "Source",
    "StatisticsRecipe",
    "StyleDrift",
    "SubspaceNetworks",
    "TableLimits",
    "TableSpec",
    "Task",
    "TeacherNeed",
    "TruthNeed",
    "Term",
    "TrainedBefore",
    "TrainedNetworks",
    "TrajectoryNetworks",
    "Weight",
    "WeightAverage",
    "WorkflowSettings",
    "cut_to",
    "groups_of",
    "number_of_epochs",
    "task_class",
    "workflow_settings",
]
