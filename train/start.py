# SPDX-License-Identifier: Apache-2.0
"""Where a run starts: at the weights of another one, as far as they fit."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.quantizers.base import Quantizer
from polycodec.codecs.stored import load_codec, with_new_names
from polycodec.codecs.zoo import weights_at
from polycodec.entropy_models.base import EntropyModel
from polycodec.errors import ModelError
from polycodec.train.checkpoint import CHECKPOINT, read_checkpoint


def init_from(codec: Codec, path: str) -> int:
    """Start from a model's weights, or a run's, wherever names and sizes agree.

    A part may be another one now: a new entropy model on a trained transform.
    Of a run's folder its averaged weights, or, without a checkpoint, exported ones.
    Units that have died in it start anew.
    Returns how many tensors fitted.
    """
    if (Path(path) / CHECKPOINT).is_file():
        known = with_new_names(codec, read_checkpoint(Path(path))["ema"])
    else:
        known = load_codec(weights_at(path)).state_dict()
    known = _adopted(codec, known)
    wanted = codec.state_dict()
    _revive(known, wanted)
    fits = {
        k: v
        for k, v in known.items()
        if k in wanted
        and v.shape == wanted[k].shape
        and not k.endswith(".input_step")  # the grid of a frozen layer
    }
    if not fits:
        raise ModelError(
            f"no weight of {path} fits this codec; expected weights of the same "
            "parts; correct run.init or the codec section"
        )
    codec.load_state_dict(fits, strict=False)
    return len(fits)


def _adopted(codec: Codec, known: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of another codec as this one's parts can use them, with room for them."""
    for name, module in codec.named_modules():
        if isinstance(module, (EntropyModel, Quantizer)):
            start = f"{name}."
            own = {
                k.removeprefix(start): v
                for k, v in known.items()
                if k.startswith(start)
            }
            if isinstance(module, Quantizer):
                module.make_room(own)
            else:
                known |= {start + k: v for k, v in module.adopted(own).items()}
    return known


def _revive(known: dict[str, Tensor], fresh: dict[str, Tensor]) -> None:
    """Give units (rows) that have no weight left in ``known`` those of a new codec.

    Such a unit, dead because its activation is, learns nothing: its weights have no
    gradient, and decay. What begins at zero by design stays there.
    """
    for name, start in fresh.items():
        weight = known.get(name)
        if (
            not name.endswith(".weight")
            or weight is None
            or weight.shape != start.shape
            or weight.dim() < 2
        ):
            continue
        dead = (weight.flatten(1) == 0).all(1) & (start.flatten(1) != 0).any(1)
        for each in (name, name.removesuffix("weight") + "bias"):
            if dead.any() and each in known:
                known[each] = known[each].clone()
                known[each][dead] = fresh[each][dead].to(known[each].dtype)
