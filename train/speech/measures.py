# SPDX-License-Identifier: Apache-2.0
"""Measures of decoded speech for the validation log: a dozen utterances, seconds.

    mel      mean over windows 256, 1024 of |log₁₀ M - log₁₀ M̂|      lower is better
    si_sdr   10 log₁₀ |αx|² / |αx - x̂|², α = x·x̂ / |x|², decibels    higher
    pesq     ITU-T P.862.2, wide band, where the package `pesq` is installed
    stoi     Taal et al. 2011, where the package `pystoi` is installed

Figures for publication come from `polycodec eval`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from polycodec.train.speech.spectra import magnitude, mel_filters, spectrum

MEL_WINDOWS = ((256, 20), (1024, 80))
FLOOR = 1e-4


def mel_distance(x_hat: Tensor, x: Tensor, rate: int) -> float:
    """Mean absolute difference of log10 mel magnitudes of x̂ and x (T,)."""
    total = 0.0
    for size, bands in MEL_WINDOWS:
        filters = mel_filters(bands, size, rate)
        logs = [
            (magnitude(spectrum(s[None].float(), size), 0.0) @ filters + FLOOR).log10()
            for s in (x, x_hat)
        ]
        total += float((logs[0] - logs[1]).abs().mean()) / len(MEL_WINDOWS)
    return total


def si_sdr(x_hat: Tensor, x: Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio of x̂ and x (T,), decibels."""
    x, x_hat = x.double() - x.double().mean(), x_hat.double() - x_hat.double().mean()
    target = x * (x @ x_hat) / (x @ x).clamp_min(1e-12)
    noise = (target - x_hat).square().sum().clamp_min(1e-12)
    return 10 * math.log10(max(float(target.square().sum() / noise), 1e-10))


def _pesq(x_hat: Tensor, x: Tensor, rate: int) -> float | None:
    try:
        from pesq import PesqError, pesq
    except ImportError:
        return None
    if rate != 16000:
        return None
    try:
        return float(pesq(rate, x.numpy(), x_hat.numpy(), "wb"))
    except PesqError:  # too short, or P.862 finds no speech in the reference
        return None


def _stoi(x_hat: Tensor, x: Tensor, rate: int) -> float | None:
    try:
        from pystoi import stoi
    except ImportError:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(stoi(x.numpy(), x_hat.numpy(), rate))
        except RuntimeWarning:  # too little speech: it would return 1e-5
            return None


def measure(
    x_hat: Tensor, x: Tensor, lengths: Sequence[int], rate: int
) -> dict[str, float]:
    """Means over utterances x̂, x (n, 1, T), each of its own length.

    A measure whose package is missing is left out; an utterance on which PESQ or STOI
    find too little speech does not count for it.
    """
    found: dict[str, list[float]] = {}
    for row_hat, row, length in zip(x_hat.cpu(), x.cpu(), lengths, strict=True):
        decoded = row_hat[0, :length].float().clamp(-1, 1)
        given = row[0, :length]
        values = {
            "mel": mel_distance(decoded, given, rate),
            "si_sdr": si_sdr(decoded, given),
            "pesq": _pesq(decoded, given, rate),
            "stoi": _stoi(decoded, given, rate),
        }
        for name, value in values.items():
            if value is not None:
                found.setdefault(name, []).append(value)
    return {k: float(torch.tensor(v).double().mean()) for k, v in found.items()}
