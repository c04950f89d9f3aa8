"""What torch does slowly on CPUs, done in one pass; everything here has a way without it."""

from condense.kernels import few_channels, image_stage, winograd
from condense.kernels.library import done_by, state, used_on
from condense.kernels.norm_relu_pool import available, norm_relu_pool, plain

__all__ = [
    "available",
    "done_by",
    "few_channels",
    "image_stage",
    "norm_relu_pool",
    "plain",
    "state",
    "used_on",
    "winograd",
]
