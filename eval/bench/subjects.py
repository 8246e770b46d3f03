# SPDX-License-Identifier: Apache-2.0
"""Codecs as their benchmark sees them: ours, and CompressAI's if it is installed.

    Timed   compress(x) -> data,  decompress(data) -> x_hat,  size(data) in bytes

CompressAI's have random weights: their time does not depend on training except through
the number of bytes, which therefore says nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polycodec.codecs import zoo
from polycodec.codecs.signals.speech import speech_signal

_PEERS = ("mbt2018_mean", "cheng2020_anchor")
_PEER_QUALITY = 4
_PEER_STRIDE = 64  # sides that CompressAI's models take are multiples of it


@dataclass
class Timed:
    """A codec in the run. ``weights``: their digest, or what they are."""

    name: str
    kind: str
    weights: str
    rate: int  # samples a second, 0 for images
    setting: str
    compress: Callable[[Tensor], Any]
    decompress: Callable[[Any], Tensor]
    size: Callable[[Any], int]
    watched: bool = True  # by a stopwatch on our range coder


def own(name: str, device: torch.device, quality: float) -> Timed:
    """One of our codecs, NAME or NAME@RUN; ModelError for one that is not there."""
    model, _, run = name.partition("@")
    codec = zoo.load(model, str(device), checkpoint=run or None)
    rate, setting = 0, f"quality {quality:g}"
    if codec.kind == "speech":
        rate = speech_signal(codec).rate
        setting += f", level {codec.level_of(quality)} of {codec.levels}"
    return Timed(
        name,
        codec.kind,
        codec.digest.hex(),
        rate,
        setting,
        functools.partial(codec.compress, quality=quality),
        codec.decompress,
        lambda data: len(data[0]),
    )


def peers(kind: str, device: torch.device) -> list[Timed]:
    """Codecs of CompressAI's zoo, with random weights; none where it is not there."""
    if kind != "image":
        return []
    try:
        from compressai import zoo as theirs
    except ImportError:
        return []
    return [_peer(name, getattr(theirs, name), device) for name in _PEERS]


def _peer(name: str, build: Callable[..., Any], device: torch.device) -> Timed:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(_PEER_QUALITY, pretrained=False).eval()
    model.update(force=True)
    model.to(device)

    def compress(x: Tensor) -> Any:
        h, w = x.shape[2:]
        margins = (0, -w % _PEER_STRIDE, 0, -h % _PEER_STRIDE)
        return model.compress(F.pad(x, margins, mode="replicate")), h, w

    def decompress(coded: Any) -> Tensor:
        data, h, w = coded
        return model.decompress(**data)["x_hat"][..., :h, :w]

    return Timed(
        f"CompressAI {name.replace('_', '-')}",
        "image",
        "random",
        0,
        f"model {_PEER_QUALITY}, random weights",
        compress,
        decompress,
        lambda coded: sum(len(s) for part in coded[0]["strings"] for s in part),
        watched=False,
    )
