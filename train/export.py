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

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from polycodec.codecs.base import Codec, digest_of
from polycodec.codecs.files.atomic import atomic_write, check_target
from polycodec.errors import ModelError
from polycodec.registry import build
from polycodec.train.checkpoint import read_checkpoint
from polycodec.train.config import parse_config
from polycodec.train.image import export as export_image
from polycodec.train.log import provenance
from polycodec.train.sections import TrainConfig
from polycodec.train.speech import export as export_tokens
from polycodec.train.speech import export_latent as export_speech_latent

WEIGHTS, CARD, CERTIFICATE = "codec.safetensors", "codec.json", "certificate.json"
LICENSE = "Apache-2.0"
# Each writes weights to a path and returns what the card says of them.
RECIPES = {
    "latent": export_image.write,
    "latent-speech": export_speech_latent.write,
    "token": export_tokens.write,
}


def export(
    run: str | Path,
    out: str | Path | None = None,
    *,
    name: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Make a codec of a run's last checkpoint; returns its card.

    Writes codec.safetensors, certificate.json and codec.json into ``out``, the run's
    own folder unless told. ``name``: what the card calls it, by default the kind of
    signal and the folder. Raises ModelError naming the check that failed.
    """
    say = progress or (lambda text: None)
    run, out = Path(run), Path(run if out is None else out)
    for file in (WEIGHTS, CARD, CERTIFICATE):
        check_target(out / file, force=True)
    state = read_checkpoint(run)
    config = parse_config(json.loads(state["config"]))
    codec = averaged_codec(state, config)
    parameters = sum(p.numel() for p in codec.parameters())
    recipe = RECIPES.get(config.codec.name)
    if recipe is None:
        raise ModelError(
            f"codec '{config.codec.name}' has no export; expected {', '.join(RECIPES)}"
        )
    part = out / f".{WEIGHTS}.{secrets.token_hex(4)}.part"
    try:
        found = recipe(codec, config, part, say)
        card = {
            "name": name or _name(codec, out),
            "modality": codec.kind,
            "parameters": parameters,
            "license": LICENSE,
            "digest": digest_of(part).hex(),
            "bytes": part.stat().st_size,
            "steps": state["step"],
            "seconds": round(state["seconds"] or _logged_seconds(run)),
            "versions": provenance(),
            "config": _without_paths(config),
            **found,
        }
        _write(out / CERTIFICATE, card["certificate"])
        part.replace(out / WEIGHTS)
        _write(out / CARD, card)
    finally:
        part.unlink(missing_ok=True)
    return card


def averaged_codec(state: dict[str, Any], config: TrainConfig) -> Codec:
    """The codec of a checkpoint with its averaged weights, not yet frozen."""
    codec = build(f"codec/{config.codec.name}", **config.codec.trained())
    try:
        codec.load_state_dict(state["ema"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"the checkpoint does not fit its config; {reason}") from error
    broken = [k for k, v in codec.named_parameters() if not bool(v.isfinite().all())]
    if broken:
        raise ModelError(
            f"check 'finite' failed; {broken[:3]} hold values that are no numbers; "
            "resume an earlier checkpoint with a lower optim.lr"
        )
    return codec.eval()


def _name(codec: Codec, out: Path) -> str:
    folder = out.resolve().name
    return f"{codec.kind}/{folder.removeprefix(codec.kind + '-')}"


def _without_paths(config: TrainConfig) -> dict[str, Any]:
    """The config with the last part of each path: cards are published."""
    tree = config.model_dump(mode="json")
    for section, key in (("data", "train"), ("data", "cache"), ("run", "out")):
        tree[section][key] = Path(tree[section][key]).name
    if tree["run"]["init"]:
        tree["run"]["init"] = Path(tree["run"]["init"]).name
    return tree


def _logged_seconds(run: Path) -> float:
    """Time of all parts of a run by its log, for checkpoints that do not say."""
    try:
        lines = (run / "log.jsonl").read_text().splitlines()
    except OSError:
        return 0.0
    total, start, part = 0.0, 0, 0.0
    for row in map(json.loads, lines):
        if row["kind"] == "start":
            total, start, part = total + part, row["step"], 0.0
        elif row["kind"] == "train":
            part = row["seconds"] * (row["step"] - start)
    return total + part


def _write(path: Path, values: Any) -> None:
    with atomic_write(path, force=True) as file:
        file.write((json.dumps(values, indent=2) + "\n").encode())
