# SPDX-License-Identifier: Apache-2.0
"""The checkpoint of a run: one file, written whole, read without unpickling code.

step, seconds          how far, and how long all parts of the run took
codec, ema, optimizer  weights, their running average, the optimizer's state
config                 the resolved config as JSON
task                   what else a kind of signal trains, such as discriminators
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from polycodec.atomic import atomic_write
from polycodec.errors import InputError, ModelError

CHECKPOINT = "last.pt"
PARTS = {"step", "codec", "ema", "optimizer", "config"}


def write_checkpoint(state: dict[str, Any], run: Path) -> None:
    """Write the checkpoint whole or not at all: a killed run keeps its last one."""
    run.mkdir(parents=True, exist_ok=True)
    with atomic_write(run / CHECKPOINT, force=True) as file:
        torch.save(state, file)


def read_checkpoint(run: Path) -> dict[str, Any]:
    """Return the checkpoint of a run's folder, on the CPU; errors say what is wrong."""
    path = run / CHECKPOINT
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}; train first, without --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"cannot read the checkpoint {path}; {reason}") from error
    missing = PARTS - set(state) if isinstance(state, dict) else PARTS
    if missing:
        raise ModelError(
            f"{path} is no checkpoint of a run; {sorted(missing)} are missing"
        )
    return {"seconds": 0.0, "task": {}, **state}
