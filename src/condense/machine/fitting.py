"""How much goes into memory at once: rules that the jobs follow, and that the estimate reckons with.

Floor 0.
"""

from __future__ import annotations

# Pixels of a pass without gradients. On CPUs much of the maps between two layers then stays in the cache: 128
# images of 32 x 32 pixels; fewer would be as fast on an idle machine, and wait more often for a core that
# does something else.
CHUNK = {"cpu": 1 << 17, "cuda": 1 << 22}
# Images of a test pass, shared out to the networks of it; on CPUs what lies between two layers then stays in
# the cache.
TEST_BATCH = {"cpu": 64, "cuda": 2048}

_SHARE = 0.5  # of the memory; the rest is for the data, the test, and what the estimate leaves out
# Of the parameters: themselves, gradients, velocity, the step's own, and their form in less than float32
COPIES = 5
# Of the weights of a frozen network, for maps and as much again for gradients: its windows as the kernels of
# a CPU multiply by them (`kernels.winograd.keep_windows`)
WINDOWS = 4
_PASSES = 2  # times that activations are held: for the backward pass, and as its gradients or in another type


def test_batch(device: str, networks: int = 1) -> int:
    """How many images of a test pass go through so many networks side by side at a time, on a device of this
    type."""
    return max(1, TEST_BATCH[device] // networks)


def networks_at_once(parameters: int, activations: int, batch: int, memory: float, held: int = COPIES) -> int:
    """How many networks train at once on batches of so many images in `memory` bytes; at least 1.

    The rule: `parameters` and `activations` in float32, the latter counted as the outputs of all layers for
    one image, each as often as training holds them (`held` times the parameters), in half of the memory.
    Layers in bfloat16 need less.
    """
    return max(1, int(_SHARE * memory / (4 * (held * parameters + _PASSES * batch * activations))))
