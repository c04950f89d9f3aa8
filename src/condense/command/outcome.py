"""What `condense run` says of what it chose before the work, and of what came out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from condense.command.minutes import command
from condense.command.requests import Request, Work
from condense.machine.terminal import deviating, several
from condense.specs import catalogue

# Of what lies between chance and all: networks that reach less have learned next to nothing
_LEARNT = 0.03


def told_of_another(method: str, request: Request) -> str:
    """Why the method of `request` is taken in place of `method`, which nobody named."""
    needed = catalogue.recipe(method).images_needed(request.ipc)
    return (
        f"'{method}' wants {needed} training images of every class, and images large enough to lay several "
        f"into one: '{request.method}' takes its place here"
    )


def in_minutes(minutes: float | None) -> str:
    """'1 minute', '2.5 minutes'."""
    return several(f"{minutes or 0:g}", "minute")


def told_of_choice(request: Request, work: Work, most: int) -> str:
    """What was chosen for the minutes, of at most so many steps, as a command that repeats it."""
    lines = [
        f"chosen for {in_minutes(request.minutes)}, with what is trained beforehand (of {most} steps), and "
        f"the same again: {command(request)}"
    ]
    if work.metrics:
        cell = work.metrics[0]
        lines.append(
            f"judged by {cell.n_networks} networks of {cell.protocol.epochs} epochs a set, in at most as "
            "many minutes more"
        )
    return "\n".join(lines)


def summary(request: Request, work: Work, results: Sequence[dict[str, Any]]) -> str:
    """The accuracies and files of a finished run; in its last lines what to do where the set is no better
    than random images."""
    recipe, out = work.sets[0].recipe, request.out
    lines = [
        f"\n{recipe.title}: {several(request.ipc, 'image')} a class instead of about "
        f"{work.data.spec.train // work.data.spec.classes}"
    ]
    for cell, result in zip(work.sets, results, strict=True):
        number = deviating(f"{result['mean']:6.2f}", f"{result['std']:.2f}", result["n_networks"])
        lines.append(f"  {cell.recipe.title:<40} {number} % ({several(result['n_networks'], 'network')})")
    files = {
        "synthetic.safetensors": "the set",
        "grid.png": "real and synthetic images",
        "metrics.json": "every accuracy",
    }
    beside = catalogue.recipe(catalogue.BASELINE)
    files |= {
        "history.jsonl": "the loss over the steps",
        f"{beside.name}/": f"{beside.title.lower()} of the same size",
    }
    # A selection has no history, and an empty file of one
    lines += [
        f"  {out / name}  {content}"
        for name, content in files.items()
        if (out / name).exists() and (out / name).stat().st_size
    ]
    return "\n".join([*lines, *_no_better(request, work, results)])


def _no_better(request: Request, work: Work, results: Sequence[dict[str, Any]]) -> list[str]:
    """What to do where the set is not above the baseline, which is the last of the sets."""
    if len(results) < 2:
        return []
    chance = 100 / work.data.spec.classes
    if max(result["mean"] for result in results) < chance + _LEARNT * (100 - chance):
        epochs = work.metrics[0].protocol.epochs
        return [
            f"\nNetworks learned next to nothing, neither from the set nor from real images (chance is "
            f"{chance:.1f} %), so nothing can be said of the set. What may help:",
            f"  more epochs (--epochs, here {epochs}), or another network (--arch, here "
            f"{work.metrics[0].eval_arch}), in another folder --out",
        ]
    gain, spread = results[0]["mean"] - results[-1]["mean"], max(result["std"] for result in results)
    if gain > 0:
        told = "the gain over random images is within the spread of the networks: it may be chance"
        return [f"\n{told}; more minutes or steps may help"] if gain < spread else []
    recipe, baseline = work.sets[0].recipe, work.sets[-1].recipe
    lines = [
        f"\nThe synthetic set is no better than {several(request.ipc, 'real image')} a class taken at "
        f"random: {results[0]['mean']:.2f} % against {results[-1]['mean']:.2f} %.",
        f"Do not train on it; {request.out / baseline.name} holds the real images. What may help:",
    ]
    if recipe.number_of_steps:
        lines.append("  more time for the same (--minutes, or --steps), in another folder --out")
    other = recipe.otherwise or catalogue.recipe(catalogue.DEFAULT_METHOD).otherwise
    if other and other != recipe.name and getattr(recipe, "decode", None):
        lines.append(f"  a method that leaves images whole: --method {other}")
    share = work.data.spec.smallest_class // max(1, request.ipc)
    if share < 10 and request.ipc > 1:
        lines.append(
            f"  fewer images a class (--ipc): the smallest class has only {work.data.spec.smallest_class}"
        )
    return lines
