# SPDX-License-Identifier: Apache-2.0
"""Codecs that have no weights: all that is learned is in the file they write.

    video/nerv          configs/video/nerv.yaml
    video/nerv-small    configs/video/small/nerv.yaml
    --checkpoint X.yaml a config of one's own, for encoding and for decoding

What decoding depends on, the network and the signal, has a digest as weights have one.
How a network is fitted is free to change.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import polycodec.configs
from polycodec.errors import ModelError

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec

FAMILIES = ("implicit",)
DECODING = ("name", "signal", "network", "entropy")
ROOT = Path(polycodec.configs.__file__).parent


@functools.cache
def _shipped() -> dict[str, tuple[Path, dict[str, Any]]]:
    """Configs and their sections, by the codec's name; each file is parsed once."""
    found = {}
    for path in sorted(ROOT.rglob("*.yaml")):
        kind, *folders = path.relative_to(ROOT).parent.parts
        section = section_of(path)
        if section.get("name") in FAMILIES:
            found[f"{kind}/{'-'.join([path.stem, *folders])}"] = path, section
    return found


def configs() -> dict[str, Path]:
    """Configs of such codecs that ship with the package, by the codec's name."""
    return {name: path for name, (path, _) in _shipped().items()}


def config_of(name: str, checkpoint: str | Path | None) -> Path | None:
    """The config of a codec without weights, of a name or a checkpoint; else None."""
    if checkpoint is None:
        return configs().get(name)
    path = Path(checkpoint)
    return path if path.suffix in (".yaml", ".yml") and path.is_file() else None


def section_of(path: Path) -> dict[str, Any]:
    """The section ``codec`` of a config; ModelError for a file that is none."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ModelError(f"cannot read the config {path}; {error}") from error
    section = config.get("codec", {}) if isinstance(config, dict) else None
    if not isinstance(section, dict):
        raise ModelError(f"{path} is no config; expected a section 'codec' in it")
    try:
        json.dumps(section, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"{path} has what JSON cannot say, {error}; expected names that are text, "
            "and numbers, texts and lists of them; put others into quotes"
        ) from error
    return section


def digest_of(section: dict[str, Any]) -> bytes:
    """SHA-256 of what decoding depends on, sorted, as JSON."""  # BITSTREAM
    wanted = {k: section[k] for k in DECODING if k in section}
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).digest()


def build_codec(path: Path, name: str) -> Codec:
    """The codec of a config; ModelError for a family that has weights to train."""
    from polycodec.registry import build

    section = section_of(path)
    family = section.get("name")
    if family not in FAMILIES:
        raise ModelError(
            f"{path} is of the family '{family}', which has weights to train; run "
            f"'polycodec train {path}' and 'polycodec export' first"
        )
    options = {k: v for k, v in section.items() if k != "name"}
    codec: Codec = build(f"codec/{family}", **options)
    codec.name, codec.digest = name, digest_of(section)[:4]
    return codec.eval()


def cards() -> list[dict[str, Any]]:
    """Cards as models have them; there are no parameters but those of a file."""
    return [
        {
            "name": name,
            "modality": name.partition("/")[0],
            "parameters": 0,
            "license": "Apache-2.0",
            "digest": digest_of(section).hex(),
            "bytes": 0,
            "fitted": "to each signal, while it is encoded",
            "config": {"codec": copy.deepcopy(section)},
        }
        for name, (_, section) in _shipped().items()
    ]
