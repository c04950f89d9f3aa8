"""What a machine does in a second."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from condense.config import UserError
from condense.specs.costs.work import Work


@dataclass(frozen=True)
class Rates:
    """What a machine does in a second, or takes; what jobs start with is in seconds and bytes, `light`
    without torch."""

    forward: float  # FLOP/s
    training: float  # FLOP/s
    moving: float  # FLOP/s
    call: float  # seconds a layer, whatever its size
    call_training: float
    parameter: float  # seconds to draw one
    draw: float  # seconds a batch that is augmented, whatever its size
    image: float  # seconds an augmented image
    start: float
    light_start: float
    memory: int
    light_memory: int

    def __post_init__(self) -> None:
        values = asdict(self)
        if (
            min(values.values()) < 0
            or not min(self.forward, self.training, self.moving) > 0
            or max(values.values()) > 1e21
        ):
            raise UserError("rates: must not be negative nor without bounds, and those of passes above 0")


# Not measured here. 20 TFLOP/s is 30 % of the 67 TFLOP/s that NVIDIA states for fp32; training loops of small
# networks reach such shares (airbench94: 36 % of an A100's bf16 peak). A kernel launch is taken as 6
# microseconds, drawing as on a CPU. Of the machine around it torch with the libraries and the context of CUDA
# is taken to hold 4 GiB.
REFERENCE_NAME = "NVIDIA H200"
REFERENCE = Rates(20e12, 20e12, 20e12, 12e-6, 36e-6, 6e-9, 5e-4, 2e-7, 10.0, 1.0, 4 << 30, 1 << 27)

# One core of a processor of 2020 without units for bfloat16, measured with this project's kernels; for jobs
# without a GPU. A GiB is taken to hold torch with its libraries, and the compiler of the kernels.
REFERENCE_CPU_NAME = "core of a server's CPU"
REFERENCE_CPU = Rates(18e9, 17e9, 17e9, 3e-5, 1.2e-4, 7e-8, 6e-4, 1.2e-6, 5.0, 1.0, 1 << 30, 1 << 27)


def cost(work: Work, rates: Rates) -> float:
    """Seconds that a job takes at these rates."""
    seconds = work.flops_forward / rates.forward + work.flops_training / rates.training
    seconds += work.flops_moving / rates.moving
    seconds += work.calls_forward * rates.call + work.calls_training * rates.call_training
    seconds += work.parameters_drawn * rates.parameter + work.draws * rates.draw + work.images * rates.image
    return seconds + (rates.light_start if work.light else rates.start)
