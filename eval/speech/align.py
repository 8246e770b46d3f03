# SPDX-License-Identifier: Apache-2.0
"""Take the delay of a codec out before measuring it.

    lag = argmax over |k| <= 400 of  Σ_t x[t] x̂[t + k]

Encoders of the classical kind start with look-ahead samples that players skip more or
less exactly; the measures must not punish that. An integer lag within ±25 ms.
"""

from __future__ import annotations

import numpy as np

FURTHEST = 400  # samples


def lag_of(original: np.ndarray, decoded: np.ndarray) -> int:
    """By how many samples ``decoded`` comes late (negative: early)."""
    size = 1 << (len(original) + len(decoded) + FURTHEST).bit_length()
    spectrum = np.conj(np.fft.rfft(original, size)) * np.fft.rfft(decoded, size)
    product = np.fft.irfft(spectrum, size)
    lags = np.concatenate([product[-FURTHEST:], product[: FURTHEST + 1]])
    return int(lags.argmax()) - FURTHEST


def shifted(decoded: np.ndarray, lag: int, length: int) -> np.ndarray:
    """``decoded`` moved by ``lag`` and cut or filled with zeros to ``length``."""
    early = decoded[max(lag, 0) :]
    early = np.pad(early, (max(-lag, 0), 0))[:length]
    return np.pad(early, (0, length - len(early)))
