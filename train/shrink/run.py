# SPDX-License-Identifier: Apache-2.0
"""From weights to packed weights with a card: exact layers certified again, checked.

shrink(weights, out, goal)         a weights file, or what an exported run holds
packing(goal)                      the last step of an export
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from polycodec.atomic import atomic_path, check_target
from polycodec.codecs import zoo
from polycodec.codecs.base import Codec
from polycodec.codecs.stored import TABLES, digest_of, load_codec, read_weights
from polycodec.entropy_models.exact.layer import exact_layers
from polycodec.errors import InputError, UsageError
from polycodec.memory import files_of, remember_weights
from polycodec.registry import parts_of_weights
from polycodec.train.check import Panel, self_check
from polycodec.train.config import parse_config
from polycodec.train.export import (
    CARD,
    CERTIFICATE,
    WEIGHTS,
    After,
    Recipe,
    as_row,
    recipe_of,
    write_json,
)
from polycodec.train.shrink.shrinker import Goal, Shrinker

IMAGES, UTTERANCES = 24, 16  # that a loss is measured on, at most
# What a card says of the original that is true of the packed weights as well.
KEPT = (
    *("license", "steps", "seconds", "versions", "config", "training_data", "history"),
    *("images", "recordings", "rate", "rates", "codes", "measures"),
)


def shrink(
    weights: str | Path,
    out: str | Path,
    goal: Goal,
    *,
    data: str | Path | None = None,
    name: str | None = None,
    force: bool = False,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Pack a weights file, or an exported run's, into the folder ``out``; its card.

    data: a folder of signals of the codec's kind, every second of which is measured on;
    without one, every tensor is taken to harm alike and nothing is said of the loss.
    The card keeps what the original's says of its making. Raises ModelError where a
    goal cannot be met, and where the packed codec fails a check; InputError where
    weights are there already, which files may need, unless ``force``.
    """
    say = progress or (lambda text: None)
    path, out = zoo.weights_of_run(weights), Path(out)
    if (out / WEIGHTS).resolve() == path.resolve():
        raise UsageError(
            f"the packed weights would replace those they are made from, {path}, which "
            "files that were made with them need; name another folder"
        )
    if out.is_file():
        raise UsageError(f"{out} is a file; expected a folder; name another")
    out.mkdir(parents=True, exist_ok=True)
    for file in (WEIGHTS, CARD, CERTIFICATE):
        check_target(out / file, force=force or file != WEIGHTS)
    beside = path.with_suffix(".json")
    card = zoo.card_of_run(path) if beside.is_file() else {}
    with TemporaryDirectory() as cache, atomic_path(out / WEIGHTS) as part:
        panel = None if data is None else panel_in(data, path, cache, say)
        found = shrunk(path, Path(part), goal, panel, say)
        kind = found.pop("modality")
        card = {
            "name": name or card.get("name") or f"{kind}/{out.resolve().name}",
            "modality": kind,
            **{k: v for k, v in card.items() if k in KEPT},
            **found,
        }
        write_json(out / CERTIFICATE, card["certificate"])
        shutil.copymode(out / CERTIFICATE, part)  # safetensors: for its owner alone
    write_json(out / CARD, card)
    remember_weights(card["digest"], files_of(card["shrunk"]["from"]))
    return card


def panel_in(
    data: str | Path, path: Path, cache: str, say: Callable[[str], None]
) -> Panel:
    """Return every second signal of a folder, for the codec of a weights file.

    Pictures may be small: crops are of 256 pixels, or of what some of them have.
    """
    codec, stored, _ = read_weights(path)
    tree: dict[str, Any] = {
        "codec": {k: v for k, v in stored.items() if k != TABLES},
        "data": {"train": str(data), "cache": cache, "holdout": 2, "crop": 64},
        "run": {"out": cache, "steps": 1},
    }

    def panel(size: int) -> Panel:
        measured = {"images": IMAGES, "utterances": UTTERANCES, "size": size}
        config = parse_config({**tree, "eval": measured})
        return recipe_of(config, codec, say).panel(codec)

    for size in (256, 128):
        with contextlib.suppress(InputError):
            return panel(size)
    return panel(64)


def shrunk(
    path: Path,
    part: Path,
    goal: Goal,
    panel: Panel | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Pack the weights at ``path`` to ``part`` and check them; what the card says."""
    few = panel.at_two() if panel else None
    origin = digest_of(path).hex()
    with parts_of_weights(origin):
        about = Shrinker(path, few, say, goal.base).write(part, goal)
        codec = load_codec(part)
    rows = exact_layers(codec).items()
    found = {
        "modality": codec.kind,
        "parameters": sum(p.numel() for p in codec.parameters()),
        "digest": digest_of(part).hex(),
        "bytes": part.stat().st_size,
        "shrunk": {"from": origin, **about},
        "certificate": [as_row(layer.certificate(key)) for key, layer in rows],
    }
    if few is not None:
        checked = self_check(codec, few.signals, few.points, few.yard, say)
        found["validation"] = checked
    return found


def packing(goal: Goal) -> After:
    """Return what an export does after it has written its weights."""

    def after(part: Path, recipe: Recipe, codec: Codec) -> dict[str, Any]:
        packed = part.with_name(part.name + ".packed")
        try:
            found = shrunk(part, packed, goal, recipe.panel(codec), recipe.say)
            os.replace(packed, part)
        finally:
            packed.unlink(missing_ok=True)
        return found

    return after
