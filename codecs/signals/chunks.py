# SPDX-License-Identifier: Apache-2.0
"""Codes of a long sound, chunk by chunk, whatever blocks its samples come in.

blocks (n, channels) ── a stream of windows for each channel ──► codes │ codes │ …
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.signals.speech import speech_signal
from polycodec.codecs.signals.windows import Stream

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec


def chunks_of(
    codec: Codec,
    blocks: Iterable[np.ndarray],
    frames: int,
    level: float | None = None,
    *,
    latents: bool = False,
) -> Iterator[Tensor]:
    """Codes (channels, C, frames) of each chunk; blocks (n, channels) float32.

    Without ``level``, what codes of any level follow from (`Codec.finest`).
    ``latents``: latents (channels, D, frames) instead.
    """
    signal, device = speech_signal(codec), codec.device
    streams: list[Stream] = []
    held: list[Tensor] = []
    samples = 0
    for block in blocks:
        if not streams:
            count = block.shape[1]
            made = functools.partial(signal.analysis, codec, level, latents=latents)
            streams = [made() for _ in range(count)]
        samples += len(block)
        held += _pushed(streams, block, device)
        while sum(codes.shape[2] for codes in held) >= frames:
            codes = torch.cat(held, dim=2)
            held = [codes[..., frames:]]
            yield codes[..., :frames]
    silence = np.zeros((-samples % codec.stride, len(streams)), np.float32)
    held += _pushed(streams, silence, device)
    held += _stacked([stream.flush() for stream in streams])
    codes = torch.cat(held, dim=2)
    for first in range(0, codes.shape[2], frames):
        yield codes[..., first : first + frames]


def _pushed(
    streams: list[Stream], block: np.ndarray, device: torch.device
) -> list[Tensor]:
    x = torch.from_numpy(np.ascontiguousarray(block.T)).to(device)
    return _stacked([s.push(x[c : c + 1]) for c, s in enumerate(streams)])


def _stacked(results: list[list[Tensor]]) -> list[Tensor]:
    """Blocks of codes (l, f) of each channel -> blocks (channels, l, f) on the CPU."""
    return [torch.stack(blocks).cpu() for blocks in zip(*results, strict=True)]
