# SPDX-License-Identifier: Apache-2.0
"""Speech in and out of the evaluation: one channel, 16 kHz, float32 in [-1, 1].

    any file ──► open_speech ──► PyAV: mix to one channel, resample ──► (T,) float32
    (T,) float32 ──► 16-bit steps ──► WAV bytes, FLAC bytes, data address

What codecs are given is a 16-bit signal, because that is what they are compared on.

    lag = argmax over |k| <= 400 of  Σ_t x[t] x̂[t + k]

Encoders of the classical kind start with look-ahead samples that players skip more or
less exactly; measures must not punish that, so an integer lag within ±25 ms is found.
"""

from __future__ import annotations

import base64
import io
import itertools
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from polycodec.codecs.files.speech.read import OpenedSpeech, open_speech
from polycodec.codecs.measures.speech import RATE
from polycodec.errors import InputError

FURTHEST = 400  # samples of a lag


def read(source: pathlib.Path | io.BytesIO) -> np.ndarray:
    """Read an audio file or its bytes as (T,) float32 at 16 kHz, one channel.

    InputError for what is damaged, or lacks packets: its figures would be of less.
    """
    with open_speech(source) as speech:
        samples = mixed(_frames(speech))
        if speech.lost:
            raise InputError(
                f"cannot read {source}; {'; '.join(speech.lost)}; expected all of its "
                "sound; repair it or leave it out"
            )
    return samples


def _frames(speech: OpenedSpeech) -> Iterator[Any]:
    """Frames of PyAV with the channels as they are."""
    import av

    channels = speech.info.channels
    layout = av.AudioLayout(speech.info.layout or f"{channels}c")
    if layout.nb_channels != channels:  # a header may say less than is decoded
        layout = av.AudioLayout(f"{channels}c")
    for block in speech.blocks():
        planes = np.ascontiguousarray(block.T)
        made = av.AudioFrame.from_ndarray(planes, "fltp", layout)
        made.sample_rate = speech.info.rate
        yield made


def mixed(frames: Iterable[Any], rate: int = RATE) -> np.ndarray:
    """Frames of PyAV mixed to one channel, (T,) float32 at ``rate``."""
    import av

    resampler = av.AudioResampler("fltp", "mono", rate)
    made = (resampler.resample(frame) for frame in itertools.chain(frames, [None]))
    return np.concatenate([piece.to_ndarray()[0] for part in made for piece in part])


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

    made = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "fltp", "mono")
    made.sample_rate = rate
    return mixed([made], target)


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
