# SPDX-License-Identifier: Apache-2.0
"""A sound as networks: one for each chunk of a file, and for each of its channels.

To what reads files the samples are their own latents, one a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.fitting.message import together
from polycodec.codecs.fitting.plan import Plan
from polycodec.codecs.transforms.base import Context, SpeechTransform

if TYPE_CHECKING:
    from polycodec.codecs.families.implicit import ImplicitCodec


class Itself(SpeechTransform):
    """Latents that are the samples."""

    def __init__(self) -> None:
        super().__init__(channels=1, stride=1)

    def g_a(self, x: Tensor) -> Tensor:
        return x

    def g_s(self, z_hat: Tensor) -> Tensor:
        return z_hat

    def contexts(self) -> tuple[Context, Context]:
        return (0, 0), (0, 0)


def fitted_sounds(
    codec: ImplicitCodec,
    blocks: Iterable[np.ndarray],
    frames: int,
    level: float,
    plan: Plan,
) -> Iterator[Tensor]:
    """Codes (channels, 1, n) of each chunk of so many samples, fitted by the plan.

    blocks: samples (n, channels) float32. Each network has its part of the plan.
    """
    number = 0
    for x in pieces(blocks, frames):
        rows = []
        for one in x:
            own = plan.part(number, x.shape[1])
            number += 1
            rows.append(codec.encode_codes(one[None, None], level, plan=own))
        yield together(rows)


def pieces(blocks: Iterable[np.ndarray], size: int) -> Iterator[Tensor]:
    """Samples (channels, n) of ``size`` each, the last one shorter."""
    held: list[np.ndarray] = []
    for block in blocks:
        held.append(block)
        while sum(map(len, held)) >= size:
            whole = np.concatenate(held)
            yield _channels(whole[:size])
            held = [whole[size:]]
    if any(map(len, held)):
        yield _channels(np.concatenate(held))


def _channels(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.T))
