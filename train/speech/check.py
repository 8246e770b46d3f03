# SPDX-License-Identifier: Apache-2.0
"""What an exported codec for speech must do before it may be called one.

    codes    the same before saving and after loading, for any cut of the signal
    tokens   real bytes give the codes back, with other threads and kernels too
    bytes    real bytes <= 1.01 estimate + 64
    sizes    one sample, and lengths that no frame divides, come back

Run on the weights as they are in the file, read back. Rates and measures that it takes
on the way are those of real bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.families.token import TokenCodec
from polycodec.codecs.measures.speech import mean_scores
from polycodec.codecs.signals.speech import SpeechSignal
from polycodec.errors import CodecError
from polycodec.train.check import MACHINES, check_bytes, failed

ODD_SAMPLES = (1, 319, 4001)
PIECE = 4321  # samples; a cut that falls on no frame


def self_check(
    codec: Codec,
    signals: Sequence[Tensor],
    before: Sequence[Tensor],
    levels: Sequence[int],
    say: Callable[[str], None],
) -> list[dict[str, float]]:
    """Code held-out signals (1, 1, T) at some rates; ModelError if a check fails.

    before: their codes at the highest rate, of the codec that was saved. Returns real
    and estimated kbps, and measures, of each rate.
    """
    for x, expected in zip(signals, before, strict=True):
        _check_codes(codec, x, expected)
    say("codes: the same after loading, and for a signal in pieces")
    for count in (1, codec.levels):
        _check_machines(codec, codec.encode_codes(signals[0], count), count)
    say(f"tokens: exact with {', '.join(MACHINES)}")
    _check_sizes(codec)
    say(f"sizes: {', '.join(map(str, ODD_SAMPLES))} samples came back")
    points = []
    for count in levels:
        points.append(_point(codec, signals, count))
        say("  ".join(f"{k} {v:.4g}" for k, v in points[-1].items()))
    return points


def _check_codes(codec: Codec, x: Tensor, expected: Tensor) -> None:
    if not torch.equal(codec.encode_codes(x, codec.levels), expected):
        raise failed("codes", "they differ after saving and loading")
    stream = _signal(codec).analysis(codec, codec.levels)
    pieces = [
        p for piece in codec.padded(x)[0].split(PIECE, 1) for p in stream.push(piece)
    ]
    if not torch.equal(torch.cat([*pieces, *stream.flush()], 1)[None], expected):
        raise failed("codes", f"they differ for pieces of {PIECE} samples")


def _check_machines(codec: Codec, codes: Tensor, levels: int) -> None:
    data = codec.write(codes, levels).data
    for name, setting in MACHINES.items():
        with setting():
            if codec.write(codes, levels).data != data:
                raise failed("tokens", f"{name}: other bytes")
            _check_tokens(codec, data, codes, levels, name)


def _check_tokens(
    codec: Codec, data: list[bytes], codes: Tensor, levels: int, where: str
) -> None:
    try:
        found = codec.read(data, levels, (codes.shape[2],))
    except CodecError as error:
        raise failed("tokens", f"{where}: {error}") from error
    if not torch.equal(found, codes):
        share = 100 * float((found != codes).float().mean())
        raise failed("tokens", f"{where}: {share:.2f} % of them differ")


def _check_sizes(codec: Codec) -> None:
    for samples in ODD_SAMPLES:
        x = torch.linspace(-0.5, 0.5, samples)[None, None]
        try:
            back = codec.decompress(codec.compress(x))
        except CodecError as error:
            raise failed("sizes", f"{samples} samples: {error}") from error
        if back.shape != x.shape or not bool(back.isfinite().all()):
            raise failed("sizes", f"{samples} samples came back as {back.shape}")


def _point(codec: Codec, signals: Sequence[Tensor], levels: int) -> dict[str, float]:
    """Real and estimated kbps, and measures, of signals (1, 1, T) at some rate."""
    rate = _signal(codec).rate
    total, bits, samples = 0, 0.0, 0
    rows: list[dict[str, float]] = []
    for x in signals:
        codes = codec.encode_codes(x, levels)
        coded = codec.write(codes, levels)
        size, estimate = len(coded.data[0]), coded.estimated_bits[0]
        check_bytes(size, estimate, f"{levels} levels")
        _check_tokens(codec, coded.data, codes, levels, f"{levels} levels")
        x_hat = codec.decode_codes(codes, levels)[..., : x.shape[-1]]
        rows.append(mean_scores([(x[0, 0], x_hat[0, 0])], rate))
        total, bits = total + 8 * size, bits + estimate
        samples += x.shape[-1]
    seconds = samples / rate
    names = [n for n in rows[0] if all(n in row for row in rows)]
    return {
        "levels": levels,
        "kbps": total / seconds / 1000,
        "estimated_kbps": bits / seconds / 1000,
        **_fixed(codec, levels),
        **{name: float(np.mean([row[name] for row in rows])) for name in names},
    }


def _fixed(codec: Codec, levels: int) -> dict[str, float]:
    """What codes of fixed width would cost, where there are codebooks."""
    if not isinstance(codec, TokenCodec):
        return {}
    width = sum(math.log2(k) for k in codec.sizes[:levels])
    return {"fixed_kbps": _signal(codec).rate / codec.stride * width / 1000}


def _signal(codec: Codec) -> SpeechSignal:
    """Return the signal of a codec that only recipes for speech hand in."""
    return cast(SpeechSignal, codec.signal)
