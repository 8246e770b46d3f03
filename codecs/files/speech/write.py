# SPDX-License-Identifier: Apache-2.0
"""Speech out: WAV, FLAC, OGG, Opus, MP3, AIFF, block by block; the suffix decides.

    plan = plan_output(".opus", rate=44100, channels=1, sample="int16")
    plan.rate, plan.sample, plan.notes      48000, int16, what differs and why
    with SpeechWriter(file, plan, tags) as writer:
        writer.write(x)                     (n, channels) float32, full scale is ±1

What a format cannot hold is an error when speech would be lost (channels) and a note
when it is precision, a rate that Opus does not know, or a tag.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from polycodec.codecs.files.speech.read import library
from polycodec.errors import InputError, UsageError

_FORMS = {
    "int8": "PCM_S8",
    "int16": "PCM_16",
    "int24": "PCM_24",
    "int32": "PCM_32",
    "float32": "FLOAT",
    "float64": "DOUBLE",
}
_BITS = {"int8": 8, "int16": 16, "int24": 24, "int32": 32}
_LOSSY = {".ogg": "VORBIS", ".oga": "VORBIS", ".opus": "OPUS", ".mp3": "MPEG_LAYER_III"}
# suffix -> libsndfile's container, most channels, rates (all when None)
FORMATS: dict[str, tuple[str, int, tuple[int, ...] | None]] = {
    ".wav": ("WAV", 255, None),
    ".flac": ("FLAC", 8, None),
    ".ogg": ("OGG", 255, None),
    ".oga": ("OGG", 255, None),
    ".opus": ("OGG", 255, (8000, 12000, 16000, 24000, 48000)),
    ".mp3": (
        "MP3",
        2,
        (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    ),
    ".aif": ("AIFF", 255, None),
    ".aiff": ("AIFF", 255, None),
}
_LIMIT_WAV = 4_000_000_000  # bytes; beyond, RF64 has the same suffix
_LIMIT_FLAC = 655_350  # Hz
_PIECE = 1 << 14  # libsndfile overflows its stack on long blocks of Vorbis, Opus


@dataclass(frozen=True)
class Plan:
    """What a file will hold; ``notes`` say what differs from what was asked for."""

    container: str
    subtype: str
    rate: int
    channels: int
    sample: str
    notes: tuple[str, ...] = ()


def plan_output(
    suffix: str, *, rate: int, channels: int, sample: str, samples: int = 0
) -> Plan:
    """Fit speech to the format of ``suffix``; named errors for what does not fit."""
    if suffix.lower() not in FORMATS:
        raise UsageError(
            f"cannot write speech as '{suffix}'; expected one of {', '.join(FORMATS)}"
        )
    suffix = suffix.lower()
    container, most, rates = FORMATS[suffix]
    soundfile = library("soundfile")
    if soundfile is None:
        raise InputError(
            "writing speech needs soundfile, which is not installed; run "
            "pip install soundfile"
        )
    if channels > most:
        raise InputError(
            f"a {suffix} file holds at most {most} channels, the speech {channels}; "
            "write .wav"
        )
    notes = []
    allowed = next((r for r in rates or () if r >= rate), (rates or (rate,))[-1])
    if suffix == ".flac" and rate > _LIMIT_FLAC:
        raise InputError(f"a .flac file holds no {rate} Hz; write .wav")
    if allowed != rate:
        notes.append(f"{suffix} knows no {rate} Hz; written at {allowed} Hz")
    subtype, sample, more = _form(suffix, container, sample)
    if container == "WAV" and samples * channels * 8 > _LIMIT_WAV:
        container = "RF64"
    if not soundfile.check_format(container, subtype):
        raise InputError(
            f"this libsndfile cannot write {suffix}; write .wav, or update soundfile"
        )
    return Plan(container, subtype, allowed, channels, sample, (*notes, *more))


def _form(suffix: str, container: str, sample: str) -> tuple[str, str, list[str]]:
    """libsndfile's name for the samples, our name for them, and notes."""
    if suffix in _LOSSY:
        return _LOSSY[suffix], sample, []
    if container == "FLAC" and sample in ("int32", "float32", "float64"):
        note = f".flac holds no {sample} samples; written as int24"
        return _FORMS["int24"], "int24", [note]
    if container == "WAV" and sample == "int8":
        return "PCM_U8", sample, []
    return _FORMS[sample], sample, []


class SpeechWriter:
    """Write blocks of samples to an open binary file; ``close`` completes it.

    A file that cannot seek gets everything at the end, from a temporary one.
    """

    def __init__(self, target: BinaryIO, plan: Plan, tags: dict[str, str]) -> None:
        soundfile = library("soundfile")
        self._target, self._plan = target, plan
        seeks = target.seekable()
        self._spool = target if seeks else tempfile.TemporaryFile()  # noqa: SIM115
        self._guarded = _Guarded(self._spool)
        self._failures = (soundfile.SoundFileError, AssertionError)
        try:
            self._file = soundfile.SoundFile(
                self._guarded,
                "w",
                samplerate=plan.rate,
                channels=plan.channels,
                format=plan.container,
                subtype=plan.subtype,
            )
        except soundfile.SoundFileError as error:
            raise InputError(
                f"{plan.subtype} cannot hold {plan.channels} channels of {plan.rate} "
                "Hz; write .wav"
            ) from error
        self.notes = tuple(self._tag(tags))

    def __enter__(self) -> SpeechWriter:
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        try:
            self._file.close()
            if kind is None:
                self._check()
            if kind is None and self._spool is not self._target:
                self._spool.seek(0)
                shutil.copyfileobj(self._spool, self._target, 1 << 20)
        finally:
            if self._spool is not self._target:
                self._spool.close()

    def write(self, x: np.ndarray) -> None:
        """Append (n, channels) float32; integers are rounded and limited."""
        bits = _BITS.get(self._plan.sample)
        pieces = [x]
        if self._plan.subtype in _LOSSY.values():
            x = np.clip(x, -1, 1)
            pieces = [x[k : k + _PIECE] for k in range(0, len(x), _PIECE)]
        elif bits is not None:
            pieces = [_integers(x, bits)]
        try:
            for piece in pieces:
                self._file.write(piece)
        except self._failures as error:
            self._check()
            raise InputError(f"cannot write the speech; {error}") from error
        self._check()

    def _check(self) -> None:
        """InputError when something could not be written."""
        if error := self._guarded.error:
            raise InputError(f"cannot write the speech; {error.strerror}") from error

    def _tag(self, tags: dict[str, str]) -> list[str]:
        """Set the tags that libsndfile knows; return a note about others."""
        known = set(self._file.copy_metadata()) | set(_NAMES)
        left = []
        for key, value in tags.items():
            name = _ALIASES.get(key, key)
            if name in known:
                setattr(self._file, name, value)
            else:
                left.append(key)
        if not left:
            return []
        return [f"tags that the format cannot hold are left out: {', '.join(left)}"]


class _Guarded:
    """A file for libsndfile, which cannot pass on errors: the first is kept here."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        return self._try(self._file.write, data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._try(self._file.seek, offset, whence)

    def tell(self) -> int:
        return self._try(self._file.tell)

    def read(self, count: int) -> bytes:
        return self._file.read(count)

    def flush(self) -> None:
        self._try(self._file.flush)

    def _try(self, call: Callable[..., Any], *args: Any) -> Any:
        try:
            return call(*args)
        except OSError as error:
            self.error = self.error or error
            return 0


# What libsndfile stores, in its own names; other software says track.
_NAMES = (
    "title", "copyright", "software", "artist", "comment", "date", "album", "license",
    "tracknumber", "genre",
)  # fmt: skip
_ALIASES = {"track": "tracknumber"}


def _integers(x: np.ndarray, bits: int) -> np.ndarray:
    """Samples as int32 whose upper ``bits`` bits are the rounded value.

    A sample v of a file of b bits is read as v / 2^(b-1): this is the way back.
    """
    full = 2.0 ** (bits - 1)
    v = np.clip(np.rint(x.astype(np.float64) * full), -full, full - 1)
    return v.astype(np.int64).astype(np.int32) << (32 - bits)
