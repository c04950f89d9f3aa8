"""True accuracies of networks of a space: measured on the whole training set, or those of a published
benchmark."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from condense.config import UserError
from condense.data.dataset import Images
from condense.evaluate.search import trained_candidates
from condense.evaluate.trainer import Trainer
from condense.files.artifacts import canonical, file_sha256
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.networks.making import Making
from condense.outside.benchmarks import read_benchmark
from condense.specs import Protocol
from condense.specs.spaces import Space, space_of
from condense.specs.truth import told_of_truth
from condense.training.sets import pixel_set

Found = tuple[dict[str, np.ndarray], dict[str, Any]]  # tensors and header of a file of true accuracies


def measured_truth(
    making: Making,
    test: Images,
    protocol: Protocol,
    strategy: str,
    *,
    candidates: int,
    draw: int,
    networks: int,
    images: int | None,
) -> tuple[Found, Checkpoint]:
    """What `networks` networks of each of so many candidates reach that are trained by `protocol` on the
    training images, or on so many `images` of them, and tested on `test`; and the checkpoint, to be removed
    once it is written.

    Raises UserError for an architecture that is no space, and for more networks or images than there are.
    """
    train, arch, options, seed = making.data, making.arch, dict(making.options), making.seed
    space = space_of(arch)
    chosen, everything = space.sample(candidates, draw), pixel_set(train, making.device)
    if images is not None and images > len(everything):
        raise UserError(
            f"images: {images} training images are asked for, and {train.dataset} has {len(everything)}; "
            "leave it out for all of them"
        )
    order = torch.randperm(len(everything), generator=seeds.generator(draw, "truth-images"))[:images]
    used = everything if images is None else everything.part(order.sort().values)
    settings = [protocol.computed_part(), arch, options, strategy, seed, train.data_sha256, test.data_sha256]
    settings += [chosen, networks, images]
    checkpoint = making.checkpoint(settings)
    trainer = Trainer(
        test,
        protocol,
        arch,
        options,
        strategy,
        range(networks),
        # of their own, so that no network of an evaluation is one of these
        seeds.stream(seed, "truth"),
        {},
        making.device,
        checkpoint=checkpoint,
    )
    found = trained_candidates(trainer, space, chosen, lambda: used, pixel_set(test, making.device))
    header = _header(space, chosen, draw, making) | {
        "told": told_of_truth(candidates, networks, images, "", protocol),
        "seed": seed,
        "options": options,
        "protocol": json.loads(canonical(protocol.told())),
        "strategy": strategy,
        "images": images,
        "test_sha256": test.data_sha256,
    }
    tensors = {
        "candidates": np.array(chosen, np.int64),
        "accuracies": np.array([found["candidate_accuracy"][k] for k in chosen], np.float64),
        "seconds": np.array([found["candidate_seconds"][k] for k in chosen], np.float64),
    }
    return (tensors, header), checkpoint


def published_truth(making: Making, protocol: Protocol, *, candidates: int, draw: int, table: str) -> Found:
    """The published test accuracies of so many candidates, of the table with the checksum `table`.

    Raises UserError for a table that is not here, is another one, or lacks a network.
    """
    space = space_of(making.arch)
    path = space.table()
    if path is None or file_sha256(path) != table:
        where = f"environment variable {space.variable}" if space.variable else f"space '{space.name}'"
        raise UserError(
            f"{where}: the table with the checksum {table[:12]}... is asked for, and "
            f"{'none is named' if path is None else f'{path} is another one'}"
        )
    known, chosen = read_benchmark(path), space.sample(candidates, draw)
    values = [known.accuracy(space.told(k), making.data.dataset) for k in chosen]
    header = _header(space, chosen, draw, making) | {
        "told": told_of_truth(candidates, 1, None, space.name, protocol),
        "benchmark": space.name,
        "table_sha256": table,
    }
    tensors = {"candidates": np.array(chosen, np.int64), "accuracies": np.array(values, np.float64)[:, None]}
    return tensors, header


def _header(space: Space, chosen: list[int], draw: int, making: Making) -> dict[str, Any]:
    return {
        "kind": "truth",
        "space": space.name,
        "names": [space.told(candidate) for candidate in chosen],
        "draw": draw,
        "dataset": making.data.dataset,
        "data_sha256": making.data.data_sha256,
        "key": making.key,
    }
