# SPDX-License-Identifier: Apache-2.0
"""The checkpoint of a run: one file, written whole, read without unpickling code.

step, seconds          how far, and how long all parts of the run took
codec, ema, optimizer  weights, their running average, the optimizer's state
config                 the resolved config as JSON
task                   what else a kind of signal trains, such as discriminators

It is an archive of tensors whose checksums are compared when it is read.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from polycodec.atomic import atomic_write
from polycodec.errors import InputError, ModelError

CHECKPOINT = "last.pt"
PARTS = {
    "step": int,
    "seconds": float,
    "codec": dict,
    "ema": dict,
    "optimizer": dict,
    "config": str,
    "task": dict,
}


def write_checkpoint(state: dict[str, Any], run: Path) -> None:
    """Write the checkpoint whole or not at all: a killed run keeps its last one."""
    run.mkdir(parents=True, exist_ok=True)
    with atomic_write(run / CHECKPOINT, force=True, durable=True) as file:
        torch.save(state, file)


def read_checkpoint(run: Path) -> dict[str, Any]:
    """Return the checkpoint of a run's folder, on the CPU; errors say what is wrong."""
    path = run / CHECKPOINT
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}; train first, without --resume")
    if not path.stat().st_size:
        raise ModelError(
            f"the checkpoint {path} is empty; its writing was cut, or the disk was "
            "full; start the run anew, or put a copy there"
        )
    state = {"seconds": 0.0, "task": {}, **_loaded(path)}
    lacking = [k for k, kind in PARTS.items() if not isinstance(state.get(k), kind)]
    if lacking:
        raise ModelError(
            f"{path} is no checkpoint of a run; {lacking} are missing, or of another "
            "type; was it written by another program?"
        )
    try:
        json.loads(state["config"])
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"the config in the checkpoint {path} is no JSON; it was changed by hand, "
            "or is damaged"
        ) from error
    return state


def _loaded(path: Path) -> dict[Any, Any]:
    """What the file holds, a dictionary of plain values and tensors; ModelError."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ModelError(
            f"cannot read the checkpoint {path}; {error}; it was cut, or is no "
            "checkpoint"
        ) from error
    if damaged is not None:
        raise ModelError(f"the checkpoint {path} is damaged: {damaged} has changed")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message tells how to run the code of a stranger.
        raise ModelError(
            f"{path} holds more than tensors and plain values, which a checkpoint of "
            "polycodec never does; nothing of it was run"
        ) from error
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"cannot read the checkpoint {path}; {reason}") from error
    return state if isinstance(state, dict) else {}
