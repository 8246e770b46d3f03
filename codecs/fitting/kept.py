# SPDX-License-Identifier: Apache-2.0
"""The checkpoint of a fit: one safetensors file; nothing in it is unpickled.

tensors   network.*, quantized.*, optimizer.<k>.*, generator, noise
header    steps, seconds and what the fit is of, as JSON; SHA-256 of all
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from polycodec.atomic import atomic_write
from polycodec.errors import InputError

if TYPE_CHECKING:
    from polycodec.codecs.fitting.fit import Fit


GENERATORS = ("generator", "noise")
SAID = {  # what a user calls it
    "network": "another model",
    "width": "a network of another quality or size of file",
    "size": "a signal of another size",
    "sum": "another signal",
    "coding": "another way of coding weights",
}


def write_kept(fit: Fit, path: Path) -> None:
    """Keep a fit; the file is whole, or as it was."""
    state = fit.state()
    tensors: dict[str, Tensor] = {n: state[n] for n in GENERATORS}
    for part in ("network", "quantized"):
        tensors |= {f"{part}.{k}": v for k, v in (state[part] or {}).items()}
    for number, values in state["optimizer"]["state"].items():
        tensors |= {
            f"optimizer.{number}.{k}": torch.as_tensor(v) for k, v in values.items()
        }
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    about = json.dumps({"fit": about_of(fit), "numbers": state["numbers"]})
    header = {"about": about, "digest": _digest(about, tensors)}
    with atomic_write(path, force=True) as file:
        file.write(save(tensors, header))


def read_kept(fit: Fit, path: Path) -> None:
    """Go on from a kept fit; InputError for one of another signal or config."""
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            f"cannot resume from {path}; {error}; delete it to begin anew"
        ) from error
    text = header.get("about", "")
    if header.get("digest") != _digest(text, tensors):
        raise InputError(
            f"cannot resume from {path}; it is damaged, or no checkpoint of a fit; "
            "delete it to begin anew"
        )
    about, mine = json.loads(text), about_of(fit)
    if differ := [key for key in mine if about["fit"].get(key) != mine[key]]:
        raise InputError(
            f"{path} is of another fit, {SAID[differ[0]]} (its {differ[0]} is "
            f"{about['fit'].get(differ[0])}, not {mine[differ[0]]}); give the options "
            "it was begun with, or delete it to begin anew"
        )
    parts: dict[str, dict[str, Any]] = {"network": {}, "quantized": {}, "optimizer": {}}
    for key, value in tensors.items():
        part, _, rest = key.partition(".")
        if part in parts:
            parts[part][rest] = value
    if parts["quantized"]:
        fit.start_quantizing()
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in parts["optimizer"].items():
        number, _, name = key.partition(".")
        moments.setdefault(int(number), {})[name] = value
    fit.load(
        {
            "network": parts["network"],
            "quantized": parts["quantized"] or None,
            "optimizer": {**fit.optimizer.state_dict(), "state": moments},
            **{name: tensors[name] for name in GENERATORS},
            "numbers": about["numbers"],
        }
    )


def _digest(about: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of a header's text and of all tensors, hex."""
    found = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].contiguous().numpy().tobytes())
    return found.hexdigest()


def about_of(fit: Fit) -> dict[str, Any]:
    """What a fit is of: only an equal one can go on."""
    x = fit.x
    return {
        "network": type(fit.network).__name__,
        "width": fit.network.width,
        "size": list(x.shape),
        # Without a second stage weights are the same however they will be coded.
        "coding": fit.recipe.coding if fit.recipe.late else None,
        # Of the samples, in 1/255, exact: sums of whole numbers.
        "sum": int((255 * x).round().to(torch.int64).sum()),
    }
