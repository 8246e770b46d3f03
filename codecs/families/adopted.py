# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of CompressAI's zoo become weights of `codec/compressai`.

Their tensors keep their precision and get the names of our parts. Nothing in a
checkpoint is run.
"""

from __future__ import annotations

import inspect
import json
import textwrap
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polycodec.codecs.families.compressai import CompressAICodec, class_of
from polycodec.codecs.zoo import EXPORTED
from polycodec.errors import ModelError


def adopt(
    architecture: str,
    checkpoint: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
) -> dict[str, Any]:
    """Make codec.safetensors and its card in ``out`` of a checkpoint of CompressAI's.

    Returns the card. ModelError for an architecture that cannot be coded here, and for
    a file that is no checkpoint of it.
    """
    theirs, state = class_of(architecture), _state_of(checkpoint)
    try:
        model = theirs.from_state_dict(state)
    except Exception as error:  # what a stranger's weights raise is not foreseen
        what = "they have no tensor" if isinstance(error, KeyError) else ""
        reason = textwrap.shorten(f"{what} {error}", 200, placeholder=" …")
        raise ModelError(
            f"the weights of {checkpoint} are not those of {architecture}; {reason}; "
            "name the architecture that they were trained as"
        ) from error
    model.eval().update(force=True)
    known = inspect.signature(theirs.__init__).parameters
    sizes = {name: getattr(model, name) for name in known if name in ("N", "M")}
    config = {"name": "compressai", "architecture": architecture, "sizes": sizes}
    codec, tensors = CompressAICodec(architecture=architecture, sizes=sizes), {}
    places = {"g_a.": "transform.analysis.", "g_s.": "transform.synthesis."}
    for key, value in model.state_dict().items():
        place = places.get(key[:4])
        tensors[place + key[4:] if place else f"entropy.model.{key}"] = value
    codec.load_state_dict(tensors)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    digest = codec.save(out / EXPORTED, config)
    card = {
        "name": name or f"image/{architecture}",
        "modality": "image",
        "parameters": sum(p.numel() for p in codec.parameters()),
        "license": "the checkpoint's",
        "digest": digest,
        "bytes": (out / EXPORTED).stat().st_size,
        "config": {"codec": config},
    }
    (out / "codec.json").write_text(json.dumps(card, indent=2), encoding="utf-8")
    return card


def _state_of(checkpoint: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names; ModelError for anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(
            f"cannot read {checkpoint}; {error.strerror or error}"
        ) from error
    except Exception as error:  # what a stranger's file raises is not foreseen
        raise ModelError(
            f"{checkpoint} is no file of tensors that torch.save wrote, or has other "
            "objects beside them, of which nothing is run; expected a checkpoint as "
            "CompressAI's examples write it"
        ) from error
    for key in ("network", "state_dict", "model_state_dict"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
        raise ModelError(
            f"{checkpoint} holds a {type(state).__name__} that is no table of tensors; "
            "expected a checkpoint as CompressAI's examples write it"
        )
    for key, value in state.items():
        if not value.isfinite().all():
            raise ModelError(
                f"{key} of {checkpoint} is not finite; its training has diverged; take "
                "an earlier checkpoint"
            )
    return state
