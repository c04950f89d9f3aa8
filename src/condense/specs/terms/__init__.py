"""The terms of an objective: their options, what each needs of a step, and what it costs.

A class for every name, by families in the files of this folder, and named in `AnyTerm`. `engines/terms.py`
gives each its function; attributes that a class leaves out are those of `Term`.
"""

from __future__ import annotations

from typing import get_args

from condense.config import by_name
from condense.specs.term import Term
from condense.specs.terms.contrast import (
    Discrimination,
    InterClassMargin,
    IntraClassContrast,
    NetworkContrast,
    NetworkCosine,
)
from condense.specs.terms.critics import ClassifierCritic, ClipCritic, CrossEntropy, PredictionKL
from condense.specs.terms.frequencies import CharacteristicFunction, EnergyOfCharacteristics
from condense.specs.terms.history import History, SyntheticHistory
from condense.specs.terms.maps import Attention, ClassStatistics, Gram, Moments
from condense.specs.terms.samples import (
    Barycentre,
    Covariance,
    EnergyDistance,
    HyperbolicCentroid,
    KernelMMD,
    Mean,
    Representative,
    Variance,
)
from condense.specs.terms.spread import CosineDiversity, Diversity, IntraClassDiversity

AnyTerm = (
    Mean
    | Variance
    | Covariance
    | EnergyDistance
    | Diversity
    | History
    | ClassifierCritic
    | ClipCritic
    | PredictionKL
    | CrossEntropy
    | Moments
    | Gram
    | Attention
    | IntraClassDiversity
    | KernelMMD
    | CharacteristicFunction
    | EnergyOfCharacteristics
    | Representative
    | CosineDiversity
    | NetworkCosine
    | NetworkContrast
    | IntraClassContrast
    | Discrimination
    | InterClassMargin
    | Barycentre
    | ClassStatistics
    | HyperbolicCentroid
    | SyntheticHistory
)

# The class of every term by its name.
TERMS: dict[str, type[Term]] = by_name(get_args(AnyTerm), "name")
