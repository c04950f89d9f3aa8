"""The job that makes a synthetic set of ours of another program's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense.config import UserError
from condense.files.artifacts import digest, write_tensors
from condense.files.carried import OF_IMAGE
from condense.files.headers import SOFT_LABELS
from condense.jobs.keeping import is_whole
from condense.jobs.machine import Machine, at_work
from condense.machine.terminal import tell
from condense.specs import Decode

if TYPE_CHECKING:
    import numpy as np

    from condense.data.dataset import Images
    from condense.outside.foreign import Foreign

NUMBER = 1  # of the readings: raised when a file is read otherwise than before
OUTSIDE = "outside"  # the method of a set that nobody names
ARCH = "unknown"  # in the place of the network that a set was condensed with


@dataclass(frozen=True)
class Reading:
    """How a file of another program is read: what `condense judge` is told of it. See `outside`."""

    method: str | None = None  # None: as the file says, or "outside"
    tensors: tuple[str, str] | None = None
    number: int | None = None
    labels: str | None = None
    coding: str | None = None
    mean: str | None = None
    std: str | None = None
    classes_as: str | None = None
    decode: Decode | None = None
    check: bool = True  # of the order of classes


def take_in(out: Path, file: Path, data: Path, reading: Reading, strategy: str, machine: Machine) -> str:
    """Writes the set in `file` to `out` as a synthetic set of the prepared images in the folder `data`;
    returns its key, which holds the checksum of the file and how it was read.

    A set that is there under this key stays. `strategy`: the augmentation under which the network of the
    check of the class order is trained. Raises UserError for what cannot be read or is not clear, and for a
    wrong order.
    """
    from condense.data.dataset import load
    from condense.outside.forms import sha256_of

    train = load(data / "train.safetensors", verify=False)
    if not file.exists():
        raise UserError(f"{file}: no such file")
    checksum = sha256_of(file)
    labels = Path(reading.labels) if reading.labels and Path(reading.labels).is_file() else None
    settings = [
        NUMBER,
        checksum,
        asdict(reading) | {"check": True},
        train.data_sha256,
        None if labels is None else sha256_of(labels),
    ]
    key = digest(settings)
    if is_whole(out, "synthetic", key):
        return key
    tensors, header = _read(file, train, reading)
    header["key"] = key
    header["origin"]["sha256"] = checksum
    with at_work(machine, out) as (device, _):
        if reading.check:
            header["origin"]["class_order"] |= {
                "check": _checked(file, tensors, header, train, strategy, device)
            }
        write_tensors(out, tensors, header)
    return key


def _read(file: Path, train: Images, reading: Reading) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors and the header of the set, but for what is found out of the order of its classes."""
    from condense.outside import coding, numbering
    from condense.outside.forms import Asked, read_foreign

    where, names = str(file), list(train.class_names)
    foreign = read_foreign(file, Asked(train.channels, train.size, reading.tensors, reading.number))
    images = numbering.laid_out(foreign, train.channels, train.size, where)
    given = numbering.labelled(
        foreign, _own_labels(reading, len(images), names), len(images), len(names), where
    )
    order, how_known = numbering.class_order(foreign, given.labels, names, reading.classes_as, where)
    name, why = _coding(foreign, images, train, reading, where)
    mean, std = _constants(train, reading, name)
    pixels = coding.decoded(images, name, mean, std)
    pixels, sorted_labels = numbering.arranged(pixels, given, order, len(names), names, where)
    origin = {
        "file": file.name,
        "form": foreign.form,
        "images": foreign.called[0],
        "labels": foreign.called[1] or reading.labels or "",
        "coding": name,
        "coding_because": why,
        **({"mean": mean, "std": std} if name == "normalised" else {}),
        "class_order": {"known": how_known, "numbers": order.tolist()},
    }
    header: dict[str, Any] = {
        "kind": "synthetic",
        "dataset": train.dataset,
        "method": reading.method or foreign.method or OUTSIDE,
        "arch": ARCH,
        "ipc": len(sorted_labels.labels) // len(names),
        "class_names": names,
        "classes": [*range(len(names))],
        "mean": list(train.mean),
        "std": list(train.std),
        "data_sha256": train.data_sha256,
        "origin": origin,
    }
    decode = asdict(reading.decode) if reading.decode else foreign.decode
    header |= {"decode": decode} if decode else {}
    tensors = {"images": pixels, "labels": sorted_labels.labels}
    if sorted_labels.soft is not None:
        tensors[SOFT_LABELS] = sorted_labels.soft
        header |= {"carries": {SOFT_LABELS: OF_IMAGE}, SOFT_LABELS: sorted_labels.soft_kind}
    soft = f", soft labels ({sorted_labels.soft_kind})" if sorted_labels.soft is not None else ""
    tell(
        f"{file}: {foreign.form}, {len(pixels)} images ({header['ipc']} a class{soft}); read as "
        f"{coding.CODINGS[name].title} ({why}); classes {how_known}"
    )
    return tensors, header


def _own_labels(reading: Reading, count: int, names: list[str]) -> np.ndarray | None:
    """The labels that `--labels` gives, if it does."""
    import numpy as np

    from condense.outside.forms import read_labels
    from condense.outside.numbering import CLASS_MAJOR

    if reading.labels is None:
        return None
    if reading.labels != CLASS_MAJOR:
        path = Path(reading.labels)
        if not path.is_file():
            raise UserError(f"--labels {path}: no such file; name one, or write {CLASS_MAJOR}")
        return read_labels(path)
    if count % len(names):
        raise UserError(
            f"--labels {CLASS_MAJOR}: {count} images are no whole number for each of {len(names)} classes"
        )
    return np.repeat(np.arange(len(names)), count // len(names))


def _coding(
    foreign: Foreign, images: np.ndarray, train: Images, reading: Reading, where: str
) -> tuple[str, str]:
    from condense.outside.coding import coding_of

    if foreign.coding is not None:
        if reading.coding not in (None, foreign.coding):
            raise UserError(
                f"--coding {reading.coding}: {where} is a {foreign.form}, whose images are "
                f"'{foreign.coding}'; leave the option out"
            )
        return foreign.coding, f"as a {foreign.form} has them"
    mean, std = _constants(train, reading, "normalised")
    return coding_of(images, mean, std, reading.coding, where)


def _constants(train: Images, reading: Reading, coding: str) -> tuple[list[float], list[float]]:
    """Mean and spread by which the file's pixels are normalised: those of the data set unless the user says
    others. Raises UserError for these where the pixels are not normalised."""
    from condense.outside.coding import constants

    mean, std = list(train.mean), list(train.std)
    for option, given in (("--mean", reading.mean), ("--std", reading.std)):
        if given is not None and coding != "normalised":
            raise UserError(f"{option}: is for normalised images, and these are read as '{coding}'")
    if reading.mean is not None:
        mean = constants(reading.mean, "--mean", train.channels)
    if reading.std is not None:
        std = constants(reading.std, "--std", train.channels, positive=True)
    return mean, std


def _checked(
    file: Path,
    tensors: Mapping[str, np.ndarray],
    header: Mapping[str, Any],
    train: Images,
    strategy: str,
    device: Any,
) -> dict[str, Any]:
    """What the check of the class order found, and said. Raises UserError if the order is wrong."""
    from condense.evaluate.synthetic import decoded
    from condense.outside.order import RIGHT, WRONG, check_order

    images, labels = decoded(tensors["images"], tensors["labels"], header)
    found = check_order(images, labels, train, strategy=strategy, seed=0, device=device)
    names, order = header["class_names"], header["origin"]["class_order"]["numbers"]
    sentence = found.sentence(names)
    if found.verdict == WRONG:
        right = [names[found.assignment[place]] for place in order]
        if any("," in name or " " in name for name in right):
            listed = f"with a file of these names, one a line: {'; '.join(right)}"
        else:
            listed = ",".join(right)
        raise UserError(
            f"{file}: its classes lie in another order: {sentence}. Give --classes-as {listed} (or judge it "
            "as it is with --no-check)"
        )
    tell(f"class order: {'' if found.verdict == RIGHT else 'DOUBTFUL: '}{sentence}")
    return found.told()
