# SPDX-License-Identifier: Apache-2.0
"""How far decoded speech is from its original: six measures at 16 kHz.

    PESQ-WB, PESQ-NB   ITU-T P.862.2, P.862.1: MOS 1..4.6         (pesq)
    STOI               share of intelligibility 0..1              (pystoi)
    ViSQOL             MOS 1..5, speech mode, lattice mapping     (visqol-python)
    SI-SDR             10 log10( |α x|² / |α x - x̂|² ), α = <x, x̂> / |x|²
    mel distance       mean |log10 mel(x) - log10 mel(x̂)| over five resolutions

A measure whose package is not installed is left out with its reason. ViSQOL without
the lattice mapping scores up to 1.4 higher, so it is then left out as well. A file
that a measure cannot judge (no speech found, too short) has no value there: it is
counted and never scored. PESQ and ViSQOL are made for sentences: longer sounds are
judged in equal pieces of at most 20 s, whose mean is taken.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from polycodec.errors import InputError, UnknownNameError
from polycodec.eval.speech import RATE

LONGEST = 20 * RATE  # samples of a piece
WINDOWS = ((128, 10), (256, 20), (512, 40), (1024, 80), (2048, 80))  # window, bands
FLOOR = 1e-5


@dataclass(frozen=True)
class Metric:
    """One measure: what tables and plots call it, and how to read it."""

    name: str
    label: str
    unit: str
    digits: int
    better: int  # 1: more is better, -1: less is
    measure: Callable[[np.ndarray, np.ndarray], float]
    packages: tuple[tuple[str, str], ...] = ()  # distribution, module
    rule: str = ""  # how it is taken, where that is not the package's only way

    def missing(self) -> str | None:
        """Say why it cannot be taken here, or None."""
        for package, module in self.packages:
            if importlib.util.find_spec(module) is None:
                return f"{package} is not installed"
        return None

    def version(self) -> str:
        """The packages behind it with their versions, and its rule."""
        parts = [f"{p} {importlib.metadata.version(p)}" for p, _ in self.packages]
        return ", ".join([*parts, *([self.rule] if self.rule else [])])


class Unjudged(Exception):
    """A measure has no value for this pair, and why."""


def chosen(names: Sequence[str] | None = None) -> list[Metric]:
    """The measures of these names, or all, that can be taken here."""
    known = {metric.name: metric for metric in METRICS}
    for name in names or ():
        if name not in known:
            raise UnknownNameError.of("measure", name, known)
    wanted = [m for m in METRICS if names is None or m.name in names]
    return [metric for metric in wanted if not metric.missing()]


def score(
    original: np.ndarray, decoded: np.ndarray, names: Sequence[str] | None = None
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Measures of two (T,) float32, those named or all that can be taken; and notes.

    A value is None where a measure refused the pair; its note says why.
    """
    _check(original, decoded)
    values: dict[str, float | None] = {}
    notes = {}
    for metric in chosen(names):
        try:
            if metric.name != "mel" and not original.any():
                raise Unjudged("the original is silent")
            values[metric.name] = metric.measure(original, decoded)
        except Unjudged as reason:
            values[metric.name] = None
            notes[metric.name] = str(reason)
    return values, notes


def rules(names: Sequence[str] | None = None) -> dict[str, str]:
    """What stored results depend on: every measure taken, with its versions."""
    return {metric.name: metric.version() for metric in chosen(names)}


def skipped() -> dict[str, str]:
    """Measures that cannot be taken here, and why."""
    reasons = {metric.label: metric.missing() for metric in METRICS}
    return {label: reason for label, reason in reasons.items() if reason}


def si_sdr(original: np.ndarray, decoded: np.ndarray) -> float:
    """Scale-invariant signal to distortion ratio in dB, means removed."""
    x = original.astype(np.float64) - original.mean(dtype=np.float64)
    y = decoded.astype(np.float64) - decoded.mean(dtype=np.float64)
    energy = float(x @ x)
    if energy == 0.0 or float(y @ y) == 0.0:
        raise Unjudged("silence has no signal to compare with")
    target = float(x @ y) / energy * x
    rest = target - y
    noise = max(float(rest @ rest), 1e-12 * energy)  # 120 dB is as good as equal
    return 10.0 * math.log10(max(float(target @ target), 1e-12 * energy) / noise)


def mel_distance(original: np.ndarray, decoded: np.ndarray) -> float:
    """Mean absolute difference of log10 mel magnitudes over five resolutions."""
    total = 0.0
    for window, bands in WINDOWS:
        a, b = (_log_mel(s, window, bands) for s in (original, decoded))
        total += float(np.abs(a - b).mean())
    return total / len(WINDOWS)


def _log_mel(samples: np.ndarray, window: int, bands: int) -> np.ndarray:
    """(frames, bands) log10 of mel magnitudes, hop a quarter of the window."""
    padded = np.pad(samples.astype(np.float64), window // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[:: window // 4]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(window + 1)[:-1]))
    return np.log10(np.maximum(spectrum @ _filters(window, bands).T, FLOOR))


@functools.cache
def _filters(window: int, bands: int) -> np.ndarray:
    """Triangles (bands, window/2 + 1) of unit height, even on the mel scale."""
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    bins = np.arange(window // 2 + 1) * RATE / window
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0.0, np.minimum(rise, fall))


def _pesq(mode: str) -> Callable[[np.ndarray, np.ndarray], float]:
    def measure(original: np.ndarray, decoded: np.ndarray) -> float:
        import pesq

        try:
            return float(pesq.pesq(RATE, original, decoded, mode))
        except (pesq.NoUtterancesError, pesq.BufferTooShortError) as error:
            said = error.args[0] if error.args else type(error).__name__
            said = said.decode() if isinstance(said, bytes) else str(said)
            raise Unjudged(said) from None

    return _in_pieces(measure)


def _stoi(original: np.ndarray, decoded: np.ndarray) -> float:
    from pystoi import stoi

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(stoi(original, decoded, RATE))
        except (RuntimeWarning, ValueError) as reason:
            raise Unjudged(str(reason).split(".")[0].lower()) from None


@functools.cache
def _visqol_api():
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="speech", use_lattice_model=True)
    return api


def _visqol(original: np.ndarray, decoded: np.ndarray) -> float:
    if len(original) < RATE:
        raise Unjudged("needs a second of sound")
    pair = (original.astype(np.float64), decoded.astype(np.float64))
    return float(_visqol_api().measure_from_arrays(*pair, RATE).moslqo)


def _in_pieces(
    measure: Callable[[np.ndarray, np.ndarray], float],
) -> Callable[[np.ndarray, np.ndarray], float]:
    """The mean over equal pieces of at most LONGEST; all must have a value."""

    def whole(original: np.ndarray, decoded: np.ndarray) -> float:
        count = max(1, -(-len(original) // LONGEST))
        pieces = (np.array_split(s, count) for s in (original, decoded))
        return sum(measure(a, b) for a, b in zip(*pieces, strict=True)) / count

    return whole


def _check(original: np.ndarray, decoded: np.ndarray) -> None:
    if original.shape != decoded.shape or original.ndim != 1:
        raise InputError(
            "the decoded sound does not match its original; expected "
            f"{original.shape} samples, found {decoded.shape}; the codec that decoded "
            "it is at fault"
        )
    if not np.isfinite(decoded).all():
        raise InputError(
            "the decoded sound has samples that are no numbers; expected finite ones; "
            "the codec that decoded it is at fault"
        )


_PESQ = (("pesq", "pesq"),)
METRICS: tuple[Metric, ...] = (
    Metric("pesq_wb", "PESQ-WB", "MOS", 2, 1, _pesq("wb"), _PESQ, "pieces of 20 s"),
    Metric("pesq_nb", "PESQ-NB", "MOS", 2, 1, _pesq("nb"), _PESQ, "pieces of 20 s"),
    Metric("stoi", "STOI", "", 3, 1, _stoi, (("pystoi", "pystoi"),)),
    Metric(
        "visqol",
        "ViSQOL",
        "MOS",
        2,
        1,
        _in_pieces(_visqol),
        (("visqol-python", "visqol"), ("ai-edge-litert", "ai_edge_litert")),
        "speech mode, lattice mapping, pieces of 20 s",
    ),
    Metric("si_sdr", "SI-SDR", "dB", 2, 1, si_sdr, rule="means removed"),
    Metric(
        "mel",
        "mel distance",
        "",
        3,
        -1,
        mel_distance,
        rule=f"log10, windows and bands {WINDOWS}, floor {FLOOR:g}",
    ),
)
