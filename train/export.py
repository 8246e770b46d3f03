# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint to a codec: freeze, check, only then write.

    last.pt ── averaged weights ──► a recipe of the codec's family
                                     latent  calibrate ─► freeze ─► certificates
                                     tokens  codes of training signals ─► fit
                                            │
            codec.safetensors ◄── self-check ◄── read back
            codec.json          the card: what it is, how it was made, what it does

A checkpoint that fails a check is not a codec: a ModelError says which one, and
nothing is left in the folder.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polycodec.atomic import atomic_path, atomic_write, check_target
from polycodec.codecs.base import Codec
from polycodec.codecs.stored import digest_of
from polycodec.entropy_models.exact.layer import Certificate
from polycodec.errors import ModelError, UnknownNameError
from polycodec.memory import remember_weights
from polycodec.plainjson import to_json
from polycodec.registry import VARIABLE, build, files_used, import_remembered
from polycodec.train.check import Panel
from polycodec.train.checkpoint import read_checkpoint
from polycodec.train.config import TrainConfig, parse_config
from polycodec.train.log import provenance
from polycodec.train.task import part_of

WEIGHTS, CARD, CERTIFICATE = "codec.safetensors", "codec.json", "certificate.json"
LICENSE = "Apache-2.0"
# What is done to weights once they are written and checked; returns more for the card.
After = Callable[[Path, "Recipe", Codec], dict[str, Any]]


class Recipe(abc.ABC):
    """Base of `recipe/*`: how a trained codec of some family becomes weights.

    ``say`` is called with what people may want to know while it takes its time.
    """

    def __init__(self, config: TrainConfig, say: Callable[[str], None]) -> None:
        self.config, self.say = config, say

    @abc.abstractmethod
    def write(self, codec: Codec, part: Path) -> dict[str, Any]:
        """Freeze ``codec``, write it to ``part``, check what is read back from there.

        codec: with its averaged weights, in eval mode, on the CPU. Returns what the
        card says of it: ``validation``, rows of rate and distortion of real bytes, and
        ``certificate``, a row for each exact layer, at least. Raises ModelError that
        names the check which failed.
        """

    @abc.abstractmethod
    def panel(self, codec: Codec) -> Panel:
        """Return held-out signals of the run's own data, and what they are measured by.

        codec: ready or not; only its kind, grid and rates count.
        """

    @property
    def stored(self) -> dict[str, Any]:
        """Return the config that rebuilds the codec, as weights keep it."""
        return {"name": self.config.codec.name, **self.config.codec.options()}


def export(
    run: str | Path,
    out: str | Path | None = None,
    *,
    name: str | None = None,
    data: str | None = None,
    named: Callable[[str, str], None] | None = None,
    after: After | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Make a codec of a run's last checkpoint; returns its card.

    Writes codec.safetensors, certificate.json and codec.json into ``out``, the run's
    own folder unless told. ``name``: what the card calls it, by default the kind of
    signal and the folder; ``named`` hears it and the kind before the work, and may
    refuse. ``data``: where the run's own signals lie now, if no longer at `data.train`.
    ``after``: done to the weights at last. Raises ModelError naming the check that
    failed.
    """
    say = progress or (lambda text: None)
    run, out = Path(run), Path(run if out is None else out)
    with contextlib.suppress(OSError):  # said by what follows
        out.mkdir(parents=True, exist_ok=True)
    for file in (WEIGHTS, CARD, CERTIFICATE):
        check_target(out / file, force=True)
    state = read_checkpoint(run)
    config = _config_of(state, data)
    codec = averaged_codec(state, config)
    parameters = sum(p.numel() for p in codec.parameters())  # freezing makes buffers
    recipe = recipe_of(config, codec, say)
    kind: str = codec.kind
    name = name or _name(kind, out)
    if named is not None:
        named(name, kind)
    versions = _versions(say)
    with atomic_path(out / WEIGHTS) as name_of_part:
        part = Path(name_of_part)
        found = recipe.write(codec, part)
        if after is not None:
            found |= after(part, recipe, codec)
        card = {
            "name": name,
            "modality": kind,
            "parameters": parameters,
            "license": LICENSE,
            "digest": digest_of(part).hex(),
            "bytes": part.stat().st_size,
            "steps": state["step"],
            "seconds": round(state["seconds"]),
            "versions": versions,
            "config": _without_paths(config),
            **found,
        }
        write_json(out / CERTIFICATE, card["certificate"])
        shutil.copymode(out / CERTIFICATE, part)  # safetensors: for its owner alone
    write_json(out / CARD, card)
    remember_weights(card["digest"], files_used(recipe.stored))
    return card


def _versions(say: Callable[[str], None]) -> dict[str, str]:
    """What the card says of the software; says where that is not published."""
    versions = provenance()
    if versions["revision"].endswith("-dirty"):
        say(
            f"note: polycodec itself has uncommitted changes, {versions['revision']}, "
            "and the card says so; commit them before publishing these weights"
        )
    return versions


def _config_of(state: dict[str, Any], data: str | None) -> TrainConfig:
    """The config of a checkpoint, its signals taken from ``data`` if they moved."""
    tree = json.loads(state["config"])
    if data is not None:
        tree["data"]["train"] = data
    return parse_config(tree)


def recipe_of(config: TrainConfig, codec: Codec, say: Callable[[str], None]) -> Recipe:
    """Return the recipe of a codec, its own or the one that its config names."""
    found = part_of("recipe", config.recipe, codec, config.codec.name)
    recipe: Recipe = found(config, say)
    return recipe


def averaged_codec(state: dict[str, Any], config: TrainConfig) -> Codec:
    """Return the codec of a checkpoint with its averaged weights, not yet frozen."""
    import_remembered(config.imports)
    try:
        codec = build(f"codec/{config.codec.name}", **config.codec.trained())
    except UnknownNameError as error:
        if not config.imports:
            raise
        raise ModelError(
            f"{error}; the run was trained with parts of {', '.join(config.imports)}, "
            "which you have not used; if you trust them, name them in "
            f"{VARIABLE}={os.pathsep.join(config.imports)}"
        ) from error
    try:
        codec.load_state_dict(state["ema"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"the checkpoint does not fit its config; {reason}") from error
    broken = [k for k, v in codec.named_parameters() if not bool(v.isfinite().all())]
    if broken:
        raise ModelError(
            f"check 'finite' failed; {broken[:3]} hold values that are no numbers; "
            "train again with a lower optim.lr"
        )
    return codec.eval()


def as_row(certificate: Certificate) -> dict[str, Any]:
    """Return a certificate as JSON, with the share of the carrier's range it uses."""
    row = dataclasses.asdict(certificate)
    return {**row, "used": certificate.bound / certificate.limit}


def certificate_table(certificates: list[Certificate]) -> str:
    """Return the certificates as aligned text, one layer a line."""
    if not certificates:
        return "no exact layers: nothing is computed between symbols and tables"
    width = max(len(c.layer) for c in certificates)
    return "\n".join(
        f"{c.layer.ljust(width)}  {c.carrier}  |sum| <= {c.bound:11.0f} = "
        f"2^{math.log2(max(c.bound, 1)):.2f} of 2^{math.log2(c.limit):.0f}"
        for c in certificates
    )


def _name(kind: str, out: Path) -> str:
    folder = out.resolve().name
    return f"{kind}/{folder.removeprefix(f'{kind}-')}"


def _without_paths(config: TrainConfig) -> dict[str, Any]:
    """Return the config with the last part of each path: cards are published."""
    tree = config.model_dump(mode="json")
    tree["imports"] = [Path(item).name for item in tree["imports"]]
    for section, key in (("data", "train"), ("data", "cache"), ("run", "out")):
        tree[section][key] = Path(tree[section][key]).name
    for section, key in (("run", "init"), ("classes", "teacher")):
        if tree[section][key]:
            tree[section][key] = Path(tree[section][key]).name
    return tree


def write_json(path: Path, values: Any) -> None:
    """Write values as people read them, whole or not at all."""
    with atomic_write(path, force=True) as file:
        file.write((to_json(values, indent=2) + "\n").encode())
