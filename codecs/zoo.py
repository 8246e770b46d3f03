# SPDX-License-Identifier: Apache-2.0
"""Weights by name: what ships with the package, and what a run exported.

    image/default  ->  weights/image-default.safetensors  +  .json (the card)

`models()` reads cards only, so listing models loads no torch. A run's folder holds
`codec.safetensors` in the same format once it has been exported.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from polycodec.errors import DigestMismatchError, ModelError, UnknownNameError

WEIGHTS = Path(__file__).parent / "weights"
EXPORTED = "codec.safetensors"


def models() -> list[dict[str, Any]]:
    """Cards of the shipped models: name, modality, parameters, license, digest …"""
    return [_card(path) for path in sorted(WEIGHTS.glob("*.json"))]


def _card(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ModelError(f"cannot read the card {path.name}; {error}") from error


def weights_of(name: str) -> Path:
    """The weights file of a shipped model; UnknownNameError lists the nearest."""
    path = WEIGHTS / f"{name.replace('/', '-')}.safetensors"
    known = {card["name"] for card in models()}
    if name not in known or not path.is_file():
        raise UnknownNameError.of("model", name, known)
    return path


def weights_of_run(run: str | Path) -> Path:
    """The exported weights of a training run, or a weights file itself."""
    run = Path(run)
    path = run if run.is_file() else run / EXPORTED
    if not path.is_file():
        raise ModelError(
            f"no exported codec in {run}; expected {EXPORTED}; run "
            f"'polycodec export {run}' first"
        )
    return path


def load(
    name: str = "image/default",
    device: str = "cpu",
    *,
    checkpoint: str | Path | None = None,
    digest: bytes | None = None,
):
    """Load a codec, ready to compress, on ``device`` (cpu, cuda or auto).

    ``checkpoint``: a run's folder or weights file instead of the shipped weights.
    ``digest``: first bytes of the SHA-256 that a file asks for; other weights are a
    DigestMismatchError, because their output would be noise.
    """
    from polycodec.codecs.base import digest_of, load_codec

    path = weights_of_run(checkpoint) if checkpoint else weights_of(name)
    found = digest_of(path)
    if digest is not None and found[: len(digest)] != digest:
        raise DigestMismatchError(
            f"the file was made with other weights of '{name}'; expected digest "
            f"{digest.hex()}, found {found[: len(digest)].hex()}; pass the weights it "
            "was made with (--checkpoint), or the polycodec version that shipped them"
        )
    return load_codec(path, name=name).to(resolve_device(device))


def resolve_device(device: str):
    """'auto' is CUDA where there is one; ModelError for a device that is not here."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(
            "device 'cuda' is not available here; found a CPU only; use --device cpu: "
            "the bytes are the same"
        )
    return torch.device(device)
