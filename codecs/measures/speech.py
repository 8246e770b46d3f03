# SPDX-License-Identifier: Apache-2.0
"""How far decoded speech is from its original, and how good it sounds by itself.

    PESQ-WB, PESQ-NB   ITU-T P.862.2, P.862.1: MOS 1..4.6         (pesq)
    STOI               share of intelligibility 0..1              (pystoi)
    ViSQOL             MOS 1..5, speech mode, lattice mapping     (visqol-python)
    SI-SDR             10 log10( |α x|² / |α x - x̂|² ), α = <x, x̂> / |x|²
    mel distance       mean |log10 mel(x) - log10 mel(x̂)| over five resolutions

of the decoded alone, by networks that opinions of listeners taught, if named:

    DNSMOS             P.835 overall, and P.808: MOS 1..5         (speechmos)
    DistillMOS         MOS 1..5                                   (distillmos)

A measure whose package is not installed is left out with its reason. ViSQOL without
the lattice mapping scores up to 1.4 higher, so it is then left out as well. A pair
that a measure cannot judge (no speech found, too short, another rate) has no value
there: it is counted and never scored. PESQ and ViSQOL are made for sentences: longer
signals are judged in equal pieces of at most 20 s, whose mean is taken. The networks
take windows of 9 and 7.7 s, a second apart, themselves, and know nothing of what was
said: a fluent decoder that changes words scores well.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from polycodec.codecs.measures.base import Judge, Measure, Measures, Unjudged
from polycodec.errors import InputError

RATE = 16000  # Hz, of speech unless told
LONGEST = 20  # seconds of a piece
# What a training run looks at: seconds for a dozen signals.
VALIDATION = ("mel", "si_sdr", "pesq_wb", "stoi")
WINDOWS = ((128, 10), (256, 20), (512, 40), (1024, 80), (2048, 80))  # window, bands
FLOOR = 1e-5


def mean_scores(
    pairs: Iterable[tuple[Any, Any]],
    rate: int,
    names: Sequence[str] = VALIDATION,
) -> dict[str, float]:
    """Return means over pairs (original, decoded) of (T,) arrays or CPU tensors.

    The decoded is clipped to [-1, 1], as a file would hold it. A pair that a measure
    cannot judge does not count for it; one that judges none is left out.
    """
    found: dict[str, list[float]] = {}
    for original, decoded in pairs:
        x, x_hat = (np.asarray(s, np.float32) for s in (original, decoded))
        values, _ = MEASURES.score(x, np.clip(x_hat, -1, 1), names, rate)
        for name, value in values.items():
            if value is not None:
                found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def si_sdr(original: np.ndarray, decoded: np.ndarray, rate: int = RATE) -> float:
    """Return the scale-invariant signal to distortion ratio in dB, means removed."""
    x = original.astype(np.float64) - original.mean(dtype=np.float64)
    y = decoded.astype(np.float64) - decoded.mean(dtype=np.float64)
    energy = float(x @ x)
    if energy == 0.0 or float(y @ y) == 0.0:
        raise Unjudged("silence has no signal to compare with")
    target = float(x @ y) / energy * x
    rest = target - y
    noise = max(float(rest @ rest), 1e-12 * energy)  # 120 dB is as good as equal
    return 10.0 * math.log10(max(float(target @ target), 1e-12 * energy) / noise)


def mel_distance(original: np.ndarray, decoded: np.ndarray, rate: int = RATE) -> float:
    """Return the mean absolute difference of log10 mel magnitudes of five resolutions.

    Windows of 128 to 2048 samples with 10 to 80 bands, magnitudes floored at 1e-5.
    A model's card names the rule under ``measures``: earlier training runs took two
    resolutions and another floor, and their figures do not compare with these.
    """
    total = 0.0
    for window, bands in WINDOWS:
        a, b = (_log_mel(s, window, bands, rate) for s in (original, decoded))
        total += float(np.abs(a - b).mean())
    return total / len(WINDOWS)


def _log_mel(samples: np.ndarray, window: int, bands: int, rate: int) -> np.ndarray:
    """(frames, bands) log10 of mel magnitudes, hop a quarter of the window."""
    padded = np.pad(samples.astype(np.float64), window // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[:: window // 4]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(window + 1)[:-1]))
    return np.log10(np.maximum(spectrum @ _filters(window, bands, rate).T, FLOOR))


@functools.cache
def _filters(window: int, bands: int, rate: int) -> np.ndarray:
    """Triangles (bands, window/2 + 1) of unit height, even on the mel scale.

    The measure as it is published. Losses (`train/speech/spectra.py`) have windows so
    short that bands are narrower than a bin: theirs are wider, and sum to 1.
    """
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    bins = np.arange(window // 2 + 1) * rate / window
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0.0, np.minimum(rise, fall))


def _pesq(mode: str, original: np.ndarray, decoded: np.ndarray, rate: int) -> float:
    import pesq

    _needs(rate)
    try:
        return float(pesq.pesq(rate, original, decoded, mode))
    except pesq.PesqError as error:  # too short, or no speech found
        said = error.args[0] if error.args else type(error).__name__
        said = said.decode() if isinstance(said, bytes) else str(said)
        raise Unjudged(said) from None


def _stoi(original: np.ndarray, decoded: np.ndarray, rate: int) -> float:
    from pystoi import stoi

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(stoi(original, decoded, rate))
        except (RuntimeWarning, ValueError) as reason:
            raise Unjudged(str(reason).split(".")[0].lower()) from None


@functools.cache
def _visqol_api() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="speech", use_lattice_model=True)
    return api


def _visqol(original: np.ndarray, decoded: np.ndarray, rate: int) -> float:
    _needs(rate)
    _needs_a_second(original)
    pair = (original.astype(np.float64), decoded.astype(np.float64))
    return float(_visqol_api().measure_from_arrays(*pair, rate).moslqo)


def _dnsmos(score: str, original: np.ndarray, decoded: np.ndarray, rate: int) -> float:
    _needs(rate)
    _needs_a_second(decoded)
    return _dnsmos_scores(np.clip(decoded, -1, 1, dtype=np.float32).tobytes())[score]


@functools.lru_cache(maxsize=1)  # one run of the networks has the values of both
def _dnsmos_scores(samples: bytes) -> dict[str, float]:
    from speechmos import dnsmos

    found = dnsmos.run(np.frombuffer(samples, np.float32), RATE)
    return {name: float(value) for name, value in found.items()}


@functools.cache
def _distillmos_network() -> Any:
    from distillmos import ConvTransformerSQAModel

    with contextlib.redirect_stdout(io.StringIO()):  # it says where its weights are
        return ConvTransformerSQAModel().eval()


def _distillmos(original: np.ndarray, decoded: np.ndarray, rate: int) -> float:
    import torch

    _needs(rate)
    _needs_a_second(decoded)
    x = torch.from_numpy(np.clip(decoded, -1, 1, dtype=np.float32))
    with torch.inference_mode():
        return float(_distillmos_network()(x[None]))


def _in_pieces(judge: Judge) -> Judge:
    """The mean over equal pieces of at most LONGEST seconds; all must have a value."""

    def whole(original: np.ndarray, decoded: np.ndarray, rate: int) -> float:
        count = max(1, -(-len(original) // (LONGEST * rate)))
        pieces = (np.array_split(s, count) for s in (original, decoded))
        return sum(judge(a, b, rate) for a, b in zip(*pieces, strict=True)) / count

    return whole


def _needs(rate: int) -> None:
    if rate != RATE:
        raise Unjudged(f"needs {RATE} Hz, this is at {rate} Hz")


def _needs_a_second(samples: np.ndarray) -> None:
    if len(samples) < RATE:
        raise Unjudged("needs a second of sound")


def _check(original: np.ndarray, decoded: np.ndarray) -> None:
    if original.shape != decoded.shape or original.ndim != 1:
        raise InputError(
            "the decoded speech does not match its original; expected "
            f"{original.shape} samples, found {decoded.shape}; the codec that decoded "
            "it is at fault"
        )
    if not np.isfinite(decoded).all():
        raise InputError(
            "the decoded speech has samples that are no numbers; expected finite ones; "
            "the codec that decoded it is at fault"
        )


_PESQ = (("pesq", "pesq"),)
_DNSMOS = tuple((name, name) for name in ("speechmos", "onnxruntime", "librosa"))
_WIDE = _in_pieces(functools.partial(_pesq, "wb"))
_NARROW = _in_pieces(functools.partial(_pesq, "nb"))
MEASURES = Measures(
    _check,
    Measure("pesq_wb", "PESQ-WB", "MOS", 2, 1, _WIDE, _PESQ, "pieces of 20 s"),
    Measure("pesq_nb", "PESQ-NB", "MOS", 2, 1, _NARROW, _PESQ, "pieces of 20 s"),
    Measure("stoi", "STOI", "", 3, 1, _stoi, (("pystoi", "pystoi"),)),
    Measure(
        "visqol",
        "ViSQOL",
        "MOS",
        2,
        1,
        _in_pieces(_visqol),
        (("visqol-python", "visqol"), ("ai-edge-litert", "ai_edge_litert")),
        "speech mode, lattice mapping, pieces of 20 s",
    ),
    Measure("si_sdr", "SI-SDR", "dB", 2, 1, si_sdr, rule="means removed"),
    Measure(
        "mel",
        "mel distance",
        "",
        3,
        -1,
        mel_distance,
        rule=f"log10, windows and bands {WINDOWS}, floor {FLOOR:g}",
        silent=True,
    ),
    Measure(
        *("dnsmos", "DNSMOS", "MOS", 2, 1),
        functools.partial(_dnsmos, "ovrl_mos"),
        _DNSMOS,
        "P.835 overall, of the decoded alone",
        asked=True,
    ),
    Measure(
        *("dnsmos_p808", "DNSMOS P.808", "MOS", 2, 1),
        functools.partial(_dnsmos, "p808_mos"),
        _DNSMOS,
        "of the decoded alone",
        asked=True,
    ),
    Measure(
        *("distillmos", "DistillMOS", "MOS", 2, 1),
        _distillmos,
        (("distillmos", "distillmos"), ("torchaudio", "torchaudio")),
        "of the decoded alone",
        asked=True,
    ),
    rate=RATE,
)
chosen, rules = MEASURES.chosen, MEASURES.rules
skipped, score = MEASURES.skipped, MEASURES.score
