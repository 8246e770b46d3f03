# SPDX-License-Identifier: Apache-2.0
"""What an exported codec must do before it may be called one, on any kind of signal.

    codes   real bytes decode to the encoder's codes, bit for bit
    bytes   real bytes <= 1.01 estimate + 64, for every signal
    exact   the same bytes and codes with other threads, kernels, layouts and batches
    sizes   one sample, and sizes that no latent divides, come back
    pieces  what is coded in pieces, such as tiles, is what is coded whole

Run on the weights as they are in the file, read back, never on those in memory. Rates
and measures that it takes on the way are those of real bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.entropy_models.exact.carrier import without_onednn
from polycodec.errors import CodecError, ModelError


@dataclass(frozen=True)
class Yardstick:
    """How a kind measures.

    ``point``: what tells the rows of a report apart, such as quality; ``unit``: of
    rates, ``scale`` of them a bit per sample; ``score``: of pairs (x, x̂) of (C, *S);
    ``sizes``: to be tried. ``pieces``: checks a codec on one batch, says what it tried.
    ``quality``: one measure of such a pair, in ``unit_of_quality``, more is
    better.
    """

    point: str
    unit: str
    scale: float
    score: Callable[[Iterable[tuple[Tensor, Tensor]]], dict[str, float]]
    sizes: Sequence[tuple[int, ...]]
    quality: Callable[[Tensor, Tensor], float]
    pieces: Callable[[Codec, Tensor], str] | None = None
    unit_of_quality: str = "dB"


@dataclass(frozen=True)
class Panel:
    """What a codec is measured on: signals (B, C, *S), and points: name -> level."""

    signals: Sequence[Tensor]
    points: dict[float, float]
    yard: Yardstick

    def brief(self, count: int, samples: int) -> Panel:
        """Return the panel with some ``count`` signals, of ``samples`` each at most.

        Signals are taken evenly, and cut along their last axis.
        """
        every = [one for x in self.signals for one in x.split(1)]
        count = min(count, len(every))
        kept = [every[k * len(every) // count] for k in range(count)]
        short = [x[..., : samples // x[0, 0, ..., 0].numel()] for x in kept]
        return replace(self, signals=short)

    def at_two(self) -> Panel:
        """Return the panel with a low and the last of its points.

        The last one of speech takes all codebooks: what nobody measures is given up.
        """
        every = list(self.points.items())
        kept = {len(every) // 4, len(every) - 1}
        return replace(self, points=dict(every[k] for k in sorted(kept)))


@torch.inference_mode()
def self_check(
    codec: Codec,
    signals: Sequence[Tensor],
    points: Mapping[float, float],
    yard: Yardstick,
    say: Callable[[str], None],
) -> list[dict[str, float]]:
    """Code held-out signals (B, C, *S) at every point; ModelError if a check fails.

    points: what a row is called by -> the level it is coded at. Returns per point the
    real and the estimated rate, and the means of the measures.
    """
    rows = []
    for point, level in points.items():
        where = f"{yard.point} {point:g}"
        rows.append({yard.point: point, **_measure(codec, signals, level, yard, where)})
        say("  ".join(f"{k} {v:.4g}" for k, v in rows[-1].items()))
    levels = list(points.values())
    for level in sorted({levels[0], levels[len(levels) // 2], levels[-1]}):
        _check_exact(codec, signals[0], level)
    say(f"exact with {', '.join(MACHINES)}, and one signal at a time")
    for size in yard.sizes:
        cut = (slice(1), slice(None), *map(slice, size))
        _check_size(codec, signals[0][cut])
    say(f"sizes {', '.join(map(_by, yard.sizes))}: back again")
    if yard.pieces is not None:
        say(yard.pieces(codec, signals[0]))
    return rows


def _measure(
    codec: Codec, signals: Sequence[Tensor], level: float, yard: Yardstick, where: str
) -> dict[str, float]:
    bits, estimated, samples = 0, 0.0, 0
    pairs: list[tuple[Tensor, Tensor]] = []
    for x in signals:
        coded = codec.write(codec.encode_codes(x, level), level)
        for data, estimate in zip(coded.data, coded.estimated_bits, strict=True):
            _check_bytes(len(data), estimate, where)
            bits, estimated = bits + 8 * len(data), estimated + estimate
        size = codec.grid(x.shape[2:])
        codes = _decoded(codec, coded.data, level, size, coded.codes, where)
        pairs += zip(x, codec.decode_codes(codes, level, x.shape[2:]), strict=True)
        samples += x[:, 0].numel()
    return {
        yard.unit: yard.scale * bits / samples,
        f"estimated_{yard.unit}": yard.scale * estimated / samples,
        **yard.score(pairs),
    }


def _check_bytes(size: int, bits: float, where: str) -> None:
    # Written so that an estimate which is no number fails too.
    if not 8 * size <= 1.01 * bits + 8 * 64:
        raise _failed(
            "bytes",
            f"{size} bytes at {where}; expected at most {1.01 * bits / 8 + 64:.0f} "
            f"for an estimate of {bits / 8:.0f}",
        )


def _decoded(
    codec: Codec,
    data: Sequence[bytes],
    level: float,
    size: Sequence[int],
    expected: Tensor,
    where: str,
) -> Tensor:
    """Codes of real bytes, which must be those the encoder had."""
    try:
        found = codec.read(data, level, size)
    except CodecError as error:
        raise _failed("codes", f"{where}: {error}") from error
    if not torch.equal(found, expected):
        share = float((found != expected).float().mean())
        raise _failed("codes", f"{where}: {100 * share:.2f} % of them differ")
    return found


def _check_exact(codec: Codec, x: Tensor, level: float) -> None:
    """Let all other ways of computing read what one wrote, and the other way round.

    The bytes of two writers may differ: the side information of a latent codec comes
    out of a float network, and where that lies on a tie both roundings are right.
    """
    codes, size = codec.encode_codes(x, level), codec.grid(x.shape[2:])
    coded = codec.write(codes, level)
    for name, setting in MACHINES.items():
        with setting():
            _decoded(codec, coded.data, level, size, coded.codes, name)
            there = codec.write(codes, level)
        _decoded(codec, there.data, level, size, there.codes, f"written with {name}")
    if codes.ndim == 4:
        last = codec.write(codes.contiguous(memory_format=torch.channels_last), level)
        _decoded(codec, last.data, level, size, last.codes, "written in channels_last")
    for data, one in zip(coded.data, coded.codes.split(1), strict=True):
        _decoded(codec, [data], level, size, one, "one signal at a time")


def _check_size(codec: Codec, x: Tensor) -> None:
    where = f"size {_by(x.shape[2:])}"
    try:
        back = codec.decompress(codec.compress(x))
    except CodecError as error:
        raise _failed("sizes", f"{where}: {error}") from error
    if back.shape != x.shape or not bool(back.isfinite().all()):
        raise _failed("sizes", f"{where} came back as {tuple(back.shape)}")


def _by(size: Sequence[int]) -> str:
    return "x".join(map(str, reversed(size)))


@contextlib.contextmanager
def _threads() -> Iterator[None]:
    """Compute with another number of threads than usual, not more than there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 2)
    try:
        yield
    finally:
        torch.set_num_threads(before)


MACHINES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "another number of threads": _threads,
    "oneDNN off": without_onednn,
}


def _failed(check: str, what: str) -> ModelError:
    return ModelError(
        f"self-check '{check}' failed; {what}; this checkpoint is not a codec"
    )
