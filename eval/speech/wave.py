# SPDX-License-Identifier: Apache-2.0
"""Speech in and out of the evaluation: one channel, 16 kHz, float32 in [-1, 1].

    any file ──► PyAV: decode, mix to one channel, resample ──► (T,) float32
    (T,) float32 ──► 16-bit steps ──► WAV bytes, FLAC bytes, data address

What codecs are given is a 16-bit signal, because that is what they are compared on.

    lag = argmax over |k| <= 400 of  Σ_t x[t] x̂[t + k]

Encoders of the classical kind start with look-ahead samples that players skip more or
less exactly; measures must not punish that, so an integer lag within ±25 ms is found.
"""

from __future__ import annotations

import base64
import io
import pathlib
from typing import Any

import numpy as np

from polycodec.codecs.measures.speech import RATE
from polycodec.errors import InputError

FURTHEST = 400  # samples of a lag


def read(source: pathlib.Path | io.BytesIO, name: str = "") -> np.ndarray:
    """Decode an audio file or its bytes to (T,) float32 at 16 kHz, one channel."""
    import av

    name = name or str(source)
    parts = []
    try:
        with av.open(source if isinstance(source, io.BytesIO) else str(source)) as file:
            if not file.streams.audio:
                raise InputError(
                    f"{name} holds no audio; expected an audio file; leave it out"
                )
            resampler = av.AudioResampler("fltp", "mono", RATE)
            for frame in file.decode(audio=0):
                parts += [f.to_ndarray()[0] for f in resampler.resample(frame)]
            parts += [f.to_ndarray()[0] for f in resampler.resample(None)]
    except (av.FFmpegError, OSError) as error:
        raise InputError(
            f"cannot read {name}: {error}; expected an audio file; replace or remove it"
        ) from error
    if not parts or not sum(map(len, parts)):
        raise InputError(f"{name} holds no samples; expected speech; leave it out")
    return np.concatenate(parts).astype(np.float32)


def steps(samples: np.ndarray) -> np.ndarray:
    """16-bit integers of float samples, clipped."""
    return np.clip(np.round(samples * 32768.0), -32768, 32767).astype(np.int16)


def as_heard(samples: np.ndarray) -> np.ndarray:
    """Float samples on 16-bit steps, as a file would hold them."""
    return steps(samples).astype(np.float32) / 32768.0


def stored(samples: np.ndarray, format: str) -> bytes:
    """Return a 16-bit file of this format of soundfile's: WAV, FLAC."""
    import soundfile

    memory = io.BytesIO()
    soundfile.write(memory, steps(samples), RATE, format=format, subtype="PCM_16")
    return memory.getvalue()


def resampled(samples: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Samples (T,) float32 at ``rate`` brought to ``target``."""
    import av

    resampler = av.AudioResampler("fltp", "mono", target)
    made = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "fltp", "mono")
    made.sample_rate = rate
    parts = [*resampler.resample(made), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in parts])


def frame(samples: np.ndarray, rate: int = RATE) -> Any:
    """A frame of PyAV with 16-bit samples."""
    import av

    made = av.AudioFrame.from_ndarray(steps(samples)[None], "s16", "mono")
    made.sample_rate = rate
    return made


def flac_address(samples: np.ndarray) -> str:
    """A FLAC file as a data address, for the page's players."""
    return (
        "data:audio/flac;base64," + base64.b64encode(stored(samples, "FLAC")).decode()
    )


def lag_of(original: np.ndarray, decoded: np.ndarray) -> int:
    """Return by how many samples ``decoded`` comes late (negative: early)."""
    size = 1 << (len(original) + len(decoded) + FURTHEST).bit_length()
    spectrum = np.conj(np.fft.rfft(original, size)) * np.fft.rfft(decoded, size)
    product = np.fft.irfft(spectrum, size)
    lags = np.concatenate([product[-FURTHEST:], product[: FURTHEST + 1]])
    return int(lags.argmax()) - FURTHEST


def shifted(decoded: np.ndarray, lag: int, length: int) -> np.ndarray:
    """Move ``decoded`` by ``lag`` and cut or fill it with zeros to ``length``."""
    early = decoded[max(lag, 0) :]
    early = np.pad(early, (max(-lag, 0), 0))[:length]
    return np.pad(early, (0, length - len(early)))
