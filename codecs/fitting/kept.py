# SPDX-License-Identifier: Apache-2.0
"""The checkpoint of a fit: one safetensors file; nothing in it is unpickled.

tensors   network.*, quantized.*, optimizer.<k>.*, generator, noise
header    steps, seconds and what the fit is of, as JSON
"""

from __future__ import annotations

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
    about = {"fit": about_of(fit), "numbers": state["numbers"]}
    with atomic_write(path, force=True) as file:
        file.write(save(tensors, {"about": json.dumps(about)}))


def read_kept(fit: Fit, path: Path) -> None:
    """Go on from a kept fit; InputError for one of another signal or config."""
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise InputError(
            f"cannot resume from {path}; {error}; delete it to begin anew"
        ) from error
    found = about.get("fit") if isinstance(about, dict) else None
    if found != about_of(fit):
        raise InputError(
            f"{path} is of another fit; expected {about_of(fit)}, found {found}; give "
            "the options it was begun with, or delete it to begin anew"
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
