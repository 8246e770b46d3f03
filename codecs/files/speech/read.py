# SPDX-License-Identifier: Apache-2.0
"""Speech in: WAV, FLAC, OGG, MP3, Opus, the audio of a video; in blocks.

    with open_speech("talk.flac") as speech:
        speech.info                     rate, channels, form of the samples, tags, notes
        for x in speech.blocks():       (n, channels) float32, full scale is ±1

soundfile (libsndfile) reads what holds plain samples and FLAC, PyAV (FFmpeg) the rest,
and the tags of all; each takes over where the other is missing or does not know a file.
Memory is bounded by a block, whatever the file's length.

Refused by name: no audio track, no samples, NaN or infinite samples, a rate of 0,
cut and damaged files, which name the second up to which they are good.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from polycodec.codecs.files.container.layout import MAX_RATE
from polycodec.codecs.files.sources import Source, name_of, opened
from polycodec.codecs.files.speech.check import Checked, Shown, check
from polycodec.codecs.files.speech.streams import is_mpeg
from polycodec.errors import InputError

if TYPE_CHECKING:
    from polycodec.codecs.files.speech.av import AvFile

MAX_CHANNELS = 255
_PIECE = 2048  # samples that libsndfile reads at once
_FORMS = {
    "PCM_U8": "int8",
    "PCM_S8": "int8",
    "PCM_24": "int24",
    "PCM_32": "int32",
    "FLOAT": "float32",
    "DOUBLE": "float64",
}
# What libsndfile reads to its true length (of Wave64 and 8SVX it reads what is behind).
_PLAIN = re.compile(rb"RIFF|RF64|FORM....AIF|\.snd|caff|fLaC|OggS", re.DOTALL)


@dataclass(frozen=True)
class SpeechInfo:
    """What a file says of its audio; ``samples`` of each channel, None: unknown.

    ``sample``: form of the stored samples, one of ``layout.SAMPLES``; int16 for
    those of lossy formats. ``layout``: where its channels play, where it says.
    """

    rate: int
    channels: int
    samples: int | None = None
    sample: str = "int16"
    tags: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    layout: str = ""


class OpenedSpeech:
    """An opened file: ``info`` and its samples, once, from the first to the last.

    ``clipped`` counts the values beyond full scale so far, which are limited to it;
    ``notes``: what is known in the end.
    """

    def __init__(self, backend: _SoundFile | AvFile, name: str) -> None:
        self._backend, self._name = backend, name
        self.info = backend.info
        self.samples = 0  # read so far
        self.clipped = 0

    @property
    def notes(self) -> list[str]:
        """What a person should know of the file, so far."""
        return [*self.info.notes, *self._backend.notes]

    @property
    def lost(self) -> tuple[str, ...]:
        """Of the notes, those on what is missing or could not be read."""
        return self._backend.lost

    def blocks(self, count: int = 1 << 16) -> Iterator[np.ndarray]:
        """Yield (n, channels) float32 in [-1, 1], n up to ``count``."""
        while len(block := self._read(count)):
            if not np.isfinite(block).all():
                bad = int(np.argmin(np.isfinite(block).all(1))) + self.samples
                raise InputError(
                    f"cannot read {self._name}; sample {bad} (second "
                    f"{bad / self.info.rate:.3f}) is NaN or infinite; expected finite "
                    "numbers; repair the file"
                )
            self.samples += len(block)
            beyond = int((np.abs(block) > 1).sum())
            self.clipped += beyond
            yield np.clip(block, -1, 1) if beyond else block
        announced = self.info.samples
        # A length that a container tells has its gaps in it.
        if announced is not None and self.samples + self._backend.absent < announced:
            raise InputError(f"cannot read {self._name}; {self._good()}")
        if not self.samples:
            raise InputError(f"{self._name} holds no samples; expected at least one")

    def _read(self, count: int) -> np.ndarray:
        try:
            return self._backend.read(count)
        except InputError as error:
            raise InputError(f"cannot read {self._name}; {error}") from error
        except MemoryError:
            raise  # the file may be whole
        except Exception as error:
            raise InputError(f"cannot read {self._name}; {self._good()}") from error

    def _good(self) -> str:
        rate, announced = self.info.rate, self.info.samples
        whole = "more" if announced is None else f"{announced / rate:.3f}"
        good = f"{self._backend.decoded / rate:.3f}"
        return (
            f"it is cut or damaged after second {good}; expected {whole}; repair it or "
            "cut it there"
        )


@contextlib.contextmanager
def open_speech(
    source: Source, *, begin: float | None = None
) -> Iterator[OpenedSpeech]:
    """Open a path or a binary file that can seek; InputError says what is wrong.

    ``begin``: sound from that second of the file's clock on, silence where there is
    none: what goes with pictures. Without it samples follow one after the other.
    """
    name = name_of(source)
    if name == "-":
        name = str(getattr(source, "name", "the input"))
    with opened(source) as stream:
        try:
            backend = _backend(stream, begin)
        except InputError as error:
            raise InputError(f"cannot read {name}; {error}") from error
        except MemoryError:
            raise
        except Exception as error:
            # Decoders meet damage with exceptions of their own making.
            raise InputError(
                f"cannot read {name}; it is damaged ({type(error).__name__}: {error})"
            ) from error
        try:
            yield OpenedSpeech(backend, name)
        finally:
            backend.close()


def library(name: str) -> Any:
    """The module ``soundfile`` or ``av``, None where it is not installed."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):  # OSError: the wheel's C library is missing
        return None


def _backend(stream: BinaryIO, begin: float | None = None) -> _SoundFile | AvFile:
    """The first library that understands the file."""
    stream.seek(0)
    start = stream.read(16)
    if not start:
        raise InputError("the file is empty")
    found = check(stream)
    if found.shown:
        stream = cast(BinaryIO, Shown(stream, found.shown))
    soundfile, av = library("soundfile"), library("av")
    if soundfile is None and av is None:
        raise InputError(
            "reading speech needs soundfile or PyAV, and neither is installed; run "
            "pip install soundfile av"
        )
    plain = bool(_PLAIN.match(start)) and not found.coded
    if soundfile is not None and (plain or av is None):
        with contextlib.suppress(soundfile.SoundFileError, RuntimeError, OSError):
            return _sound_file(soundfile, av, stream, found)
    if av is None:
        raise InputError(
            f"{found.coded or 'soundfile does not know the format or finds it damaged'}"
            "; for this and more formats pip install av"
        )
    from polycodec.codecs.files.speech.av import AvFile

    stream.seek(0)
    try:
        backend = AvFile(av, stream, begin)
    except InputError:
        # What FFmpeg does not know libsndfile may, except MPEG audio, which it guesses.
        if soundfile is None or plain or is_mpeg(start):
            raise
        found.notes.append("whether it is cut is not known: its format does not say")
        stream.seek(0)
        try:
            return _sound_file(soundfile, None, stream, found)
        except (soundfile.SoundFileError, RuntimeError, OSError):
            pass
        raise
    notes = (*found.notes, *backend.info.notes)
    backend.info = dataclasses.replace(backend.info, notes=notes)
    return backend


def _sound_file(
    soundfile: Any, av: Any, stream: BinaryIO, found: Checked
) -> _SoundFile:
    """Open with libsndfile; PyAV, where it is, knows more of tags and covers."""
    told: SpeechInfo | None = None
    if av is not None:
        from polycodec.codecs.files.speech.av import described

        told = described(av, stream)
        stream.seek(0)
    elif found.coded:
        raise InputError(f"{found.coded}; pip install av")
    backend = _SoundFile(soundfile, stream)
    info = backend.info
    if told is not None:
        info = dataclasses.replace(
            info, tags=told.tags, notes=told.notes, layout=told.layout
        )
    notes = (*found.notes, *info.notes)
    backend.info = dataclasses.replace(info, notes=notes)
    return backend


class _SoundFile:
    """libsndfile: WAV, FLAC, OGG, Opus, MP3, AIFF and others."""

    notes: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    decoded = absent = 0

    def __init__(self, soundfile: Any, stream: BinaryIO) -> None:
        self._file = file = soundfile.SoundFile(stream)
        # soundfile seeks after every read, which MP3 answers with wrong samples
        # (errors of 0.6 in blocks, 0.02 in one piece); without seeking it reads on.
        file.seekable = lambda: False
        check_shape(file.samplerate, file.channels)
        self.info = SpeechInfo(
            rate=file.samplerate,
            channels=file.channels,
            # A FLAC made by a pipe does not know its length.
            samples=file.frames if file.frames < 1 << 48 else None,
            sample=_FORMS.get(file.subtype, "int16"),
            tags={k: v for k, v in file.copy_metadata().items() if v},
        )

    def read(self, count: int) -> np.ndarray:
        pieces = []
        while count > 0:
            # Small ones: an error takes all of its piece with it.
            piece = self._file.read(min(count, _PIECE), dtype="float32", always_2d=True)
            self.decoded += len(piece)
            pieces.append(piece)
            count -= len(piece) or count
        return np.concatenate(pieces)

    def close(self) -> None:
        self._file.close()


def check_shape(rate: int, channels: int) -> None:
    """Refuse rates and channel counts that cannot be."""
    if not 1 <= rate <= MAX_RATE:
        raise InputError(
            f"its sample rate is {rate} Hz; expected 1 to {MAX_RATE}; the header is "
            "damaged"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise InputError(f"it has {channels} channels; expected 1 to {MAX_CHANNELS}")
