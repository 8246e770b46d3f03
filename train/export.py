# SPDX-License-Identifier: Apache-2.0
"""From a checkpoint to a codec: calibrate, freeze, certify, check, only then write.

    last.pt ── averaged weights ──► calibrate ──► freeze ──► certificates
                                                    │
            codec.safetensors ◄── self-check ◄── read back
            codec.json          the card: what it is, how it was made, what it does

A checkpoint that fails a check is not a codec: a ModelError says which one, and
nothing is left in the folder.
"""

from __future__ import annotations

import dataclasses
import json
import math
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polycodec.codecs.base import Codec, digest_of, load_codec
from polycodec.codecs.files.atomic import atomic_write, check_target
from polycodec.entropy_models.coders import RateEstimator
from polycodec.entropy_models.exact import Certificate
from polycodec.errors import InputError, ModelError
from polycodec.registry import build
from polycodec.train.checkpoint import read_checkpoint
from polycodec.train.config import TrainConfig, parse_config
from polycodec.train.data import CropSource, ImageCache
from polycodec.train.log import provenance
from polycodec.train.refit import fit_tables
from polycodec.train.selfcheck import self_check

WEIGHTS, CARD, CERTIFICATE = "codec.safetensors", "codec.json", "certificate.json"
LICENSE = "Apache-2.0"
# Side and number of the crops that fix the grids: the training side, and a larger one
# whose hyper latents see more than their own borders.
CALIBRATION = ((128, 16), (256, 8))
FITTING = (256, 8)  # side and number of batches of 8 crops that tables are fitted to
CALIBRATION_SEED = 271828
CHECKED_IMAGES = 8


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
    images = ImageCache(config.data.train, config.data.cache)
    crops = calibration_crops(config, images)
    held_out = _source(config, images, config.data.crop, 1).validation(config.eval.size)
    held_out = held_out[: min(config.eval.images, CHECKED_IMAGES)]

    codec = averaged_codec(state, config)
    parameters = sum(p.numel() for p in codec.parameters())
    before = estimate(codec, held_out, 50)
    say(f"calibrating on {sum(len(c) for c in crops)} crops")
    certificates = codec.freeze(lambda codec: calibrate(codec, crops, config))
    say(certificate_table(certificates))
    if hasattr(codec.entropy, "refit"):
        counted = fit_tables(
            codec, fitting_crops(config, images), config.eval.qualities
        )
        say(f"tables fitted to {counted / 1e6:.1f} M symbols")
    part = out / f".{WEIGHTS}.{secrets.token_hex(4)}.part"
    try:
        codec.save(part, {"name": config.codec.name, **config.codec.options()})
        codec = load_codec(part)
        after = estimate(codec, held_out, 50)
        points = self_check(codec, held_out, config.eval.qualities, say)
        card = {
            "name": name or _name(codec, out),
            "modality": codec.kind,
            "parameters": parameters,
            "license": LICENSE,
            "digest": digest_of(part).hex(),
            "bytes": part.stat().st_size,
            "steps": state["step"],
            "seconds": round(state["seconds"] or _logged_seconds(run)),
            "freezing": f"{100 * (after / before - 1):+.3f} % rate at quality 50",
            "images": f"{len(images)} in {Path(config.data.train).name}",
            "versions": provenance(),
            "config": _without_paths(config),
            "validation": points,
            "certificate": [as_row(c) for c in certificates],
        }
        _write(out / CERTIFICATE, card["certificate"])
        part.replace(out / WEIGHTS)
        _write(out / CARD, card)
    finally:
        part.unlink(missing_ok=True)
    return card


def averaged_codec(state: dict[str, Any], config: TrainConfig) -> Codec:
    """The codec of a checkpoint with its averaged weights, not yet frozen."""
    codec = build(f"codec/{config.codec.name}", **config.codec.options())
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


def calibration_crops(config: TrainConfig, images: ImageCache) -> list[Tensor]:
    """Always the same training crops of a run's own images, (n, 3, side, side)."""
    crops = []
    for side, count in CALIBRATION:
        try:
            source = _source(config, images, side, count)
        except InputError:  # no image is as large as this side
            continue
        crops.append(source.batch_at(0)[0])
    side, count = config.data.crop, CALIBRATION[0][1]
    return crops or [_source(config, images, side, count).batch_at(0)[0]]


def fitting_crops(config: TrainConfig, images: ImageCache) -> Iterator[Tensor]:
    """Training crops that tables are fitted to, (8, 3, side, side) each."""
    side, batches = FITTING
    try:
        source = _source(config, images, side, 8)
    except InputError:  # no image is as large as this side
        source = _source(config, images, config.data.crop, 8)
    # Batch 0 fixed the grids.
    return (source.batch_at(step)[0] for step in range(1, batches + 1))


@torch.no_grad()
def calibrate(codec: Codec, crops: list[Tensor], config: TrainConfig) -> None:
    """Run the entropy path over all rates: the largest inputs fix the grids."""
    for quality in sorted({0.0, 25.0, 50.0, 75.0, 100.0, *config.eval.qualities}):
        for x in crops:
            estimate(codec, x, quality)


@torch.no_grad()
def estimate(codec: Codec, x: Tensor, quality: float) -> float:
    """Estimated bits of images x at a quality, without noise."""
    bits = 0.0
    for part in x.split(4):
        y = codec.analyse(part, codec.level_of(quality, len(part)))
        coder = RateEstimator(len(part), noise=False)
        codec.entropy.code(coder, y.float(), (len(part), *y.shape[2:]))
        bits += float(coder.bits.sum())
    return bits


def as_row(certificate: Certificate) -> dict[str, Any]:
    """A certificate as JSON, with the share of the carrier's range it uses."""
    row = dataclasses.asdict(certificate)
    return {**row, "used": certificate.bound / certificate.limit}


def certificate_table(certificates: list[Certificate]) -> str:
    """The certificates as aligned text, one layer a line."""
    if not certificates:
        return "no exact layers: nothing is computed between symbols and tables"
    width = max(len(c.layer) for c in certificates)
    return "\n".join(
        f"{c.layer.ljust(width)}  {c.carrier}  |sum| <= {c.bound:11.0f} = "
        f"2^{math.log2(max(c.bound, 1)):.2f} of 2^{math.log2(c.limit):.0f}"
        for c in certificates
    )


def _source(config: TrainConfig, images: ImageCache, side: int, count: int):
    return CropSource(
        images,
        crop=side,
        batch=count,
        seed=CALIBRATION_SEED,
        holdout=config.data.holdout,
    )


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
