# SPDX-License-Identifier: Apache-2.0
"""The stages in which a token codec learns its codebooks.

    A   steps 0 … unquantized     transform alone, latents pass as they are
    B   between two steps         codebooks are built from latents of training crops
    C   from there on             all together, with some items at fewer levels
        at `rebuild`              B once more, on the latents of by then

Codebooks that start from the latents of a trained encoder are used evenly from the
first step. B is a function of (seed, step), as every step is: a resumed run that
passes it repeats it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from polycodec.errors import InputError
from polycodec.train.speech.data import SpeechSource
from polycodec.train.speech.sections import StagesSection

BUILD_STEPS = 1 << 40  # steps whose batches serve building only
SILENCE = 1e-4  # root mean square of a frame that no codebook is built from
MOST_BATCHES = 20_000


def builds_at(section: StagesSection, step: int) -> bool:
    """Return whether codebooks are built before this step."""
    rebuilt = 0 < section.rebuild == step
    return section.build and (step == section.unquantized or rebuilt)


def active_levels(count: int, levels: int, vary: float) -> Tensor:
    """Draw levels in use (B,): all, for a share ``vary`` of items 1 … all."""
    drawn = torch.randint(1, levels + 1, (count,))
    return torch.where(torch.rand(count) < vary, drawn, levels)


@torch.no_grad()
def collect(
    analyse: Callable[[Tensor], Tensor],
    source: SpeechSource,
    frames: int,
    first: int,
    rank: int = 0,
) -> Tensor:
    """Collect N = ``frames`` latents (N, D) of training crops, no silent ones.

    ``analyse``: (B, 1, T) -> (B, D, F). ``first``: the step this happens before.
    """
    rows, have = [], 0
    for i in range(MOST_BATCHES):
        x, _ = source.batch_at(BUILD_STEPS + first * MOST_BATCHES + i, rank)
        z = analyse(x)
        level = x.unflatten(-1, (z.shape[-1], -1)).square().mean(-1).sqrt()[:, 0]
        kept = z.float().cpu().transpose(1, 2)[level > SILENCE]
        rows.append(kept)
        have += len(kept)
        if have >= frames:
            return torch.cat(rows)[:frames]
    raise InputError(
        f"{MOST_BATCHES} batches have {have} frames that are not silent, codebooks "
        f"need {frames}; lower stages.frames or remove silent recordings"
    )
