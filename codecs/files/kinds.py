# SPDX-License-Identifier: Apache-2.0
"""The kinds of signal: all that differs between them, in one table.

kind_of("talk.flac")    "speech"        kind_of("photo.png")    "image"
stored_kind("a.plc")    what a file of ours holds, from its first bytes

Kinds are told from the first bytes of a file, of containers from whether a track is
video, then from its name. A flag is for what cannot be told: the sound of a film, a
folder of frames. What nobody recognises counts as an image, whose reader says what it
expects. A new kind is an entry here, its options and results, and a folder with
`encode` and `decode`.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from polycodec import places
from polycodec.codecs.files.options import (
    DecodeOptions,
    EncodeOptions,
    ImageDecode,
    ImageEncode,
    SpeechDecode,
    SpeechEncode,
    VideoDecode,
    VideoEncode,
)
from polycodec.codecs.files.video import tracks
from polycodec.errors import CodecError, InputError

# Files of images that are looked for, written, trained on and evaluated.
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".avif"),
    *(".ppm", ".pgm", ".pnm"),
)
FEATURES = "features/cifar10"  # the model of features unless told
_START = 64  # bytes that are looked at


@dataclass(frozen=True)
class Kind:
    """One kind of signal; ``words``: what its signals are called in messages.

    ``suffixes``: of files looked for in folders, ``also``: of others that are known by
    their name; ``start``: what their first bytes match. ``decoded``: the suffix of what
    decoding makes unless told, ``written``: all that it can make. ``holds``: whether a
    file that starts so is of this kind, None: its bytes do not say; ``default``: the
    model that codes it.
    """

    name: str
    words: str
    suffixes: tuple[str, ...]
    start: re.Pattern[bytes]
    decoded: str
    written: tuple[str, ...]
    encode: type[EncodeOptions]
    decode: type[DecodeOptions]
    also: tuple[str, ...] = ()
    holds: Callable[[BinaryIO], bool | None] | None = None
    default: str = ""

    @property
    def model(self) -> str:
        """The model that codes this kind unless told."""
        return self.default or f"{self.name}/default"

    def module(self, direction: str) -> Any:
        """Import `files/KIND/encode.py` or `decode.py`, whose function has its name."""
        return importlib.import_module(f"{__package__}.{self.name}.{direction}")


# The first kind that a file's start matches is its kind.
KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            name="image",
            words="images",
            suffixes=IMAGE_SUFFIXES,
            start=re.compile(
                rb"\x89PNG|\xff\xd8\xff|II\*\0|MM\0\*|GIF8|BM|P5|P6|RIFF....WEBP"
                rb"|....ftyp(?:avif|avis|heic|heix|mif1|msf1)",
                re.DOTALL,
            ),
            decoded=".png",
            written=IMAGE_SUFFIXES,
            encode=ImageEncode,
            decode=ImageDecode,
        ),
        Kind(
            name="video",
            words="video",
            suffixes=(
                *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".y4m", ".avi", ".ts"),
                *(".3gp", ".mpg", ".mpeg", ".ogv", ".wmv"),
            ),
            start=tracks.START,
            holds=tracks.has_video,
            decoded=".mkv",
            written=(
                *(".mkv", ".mp4", ".m4v", ".mov", ".webm", ".y4m"),
                *(".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff"),
            ),
            encode=VideoEncode,
            decode=VideoDecode,
            also=(
                *(".flv", ".mxf", ".dv", ".vob", ".mts", ".m2ts", ".ivf", ".obu"),
                *(".264", ".h264", ".265", ".h265", ".hevc", ".m2v"),
            ),
            default="image/default",
        ),
        Kind(
            name="speech",
            words="speech",
            suffixes=(
                *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac"),
                *(".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".wma", ".wv"),
                *(".mp2", ".spx", ".amr", ".ac3", ".sph", ".ape", ".tta", ".voc"),
            ),
            # riff: Wave64; 1a45: Matroska, WebM; 3026: ASF; 0b77: AC-3; 7ffe: DTS; the
            # last: MP3 and AAC, whose frames begin with eleven ones.
            start=re.compile(
                rb"fLaC|OggS|ID3|RF64|BW64|RIFF|riff|\.snd|caff|#!AMR|....ftyp|FLV"
                rb"|FORM....(?:AIF|8SVX|16SV)|wvpk|MAC |TTA1|NIST_1A|ALawSound|Creative"
                rb"|\x0b\x77|\x7f\xfe\x80\x01|\x1aE\xdf\xa3|\x30\x26\xb2\x75"
                rb"|\xff[\xe0-\xff]",
                re.DOTALL,
            ),
            decoded=".wav",
            written=(
                *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"),
            ),
            encode=SpeechEncode,
            decode=SpeechDecode,
            also=(".eac3", ".dts", ".mka", ".rf64"),
        ),
    )
}


# What files hold that decoding has no signal of.
NO_SIGNAL = {
    "set": "a set of images: see polycodec unpack",
    "features": "features, no picture can be made of them: see polycodec classify",
}


def kind_named(name: str) -> Kind:
    """Return the kind of that name; InputError when this build does not code it."""
    if name in NO_SIGNAL:
        raise InputError(f"expected one signal; the file holds {NO_SIGNAL[name]}")
    if name not in KINDS:
        known = " and ".join(kind.words for kind in KINDS.values())
        raise InputError(
            f"the file holds {name}; this build codes {known}; update polycodec"
        )
    return KINDS[name]


def model_of(name: str) -> str:
    """The model that codes a kind unless told."""
    return FEATURES if name == "features" else KINDS[name].model


def words_of(name: str) -> str:
    """What the signals of a kind are called in messages, of any kind there may be."""
    return KINDS[name].words if name in KINDS else name


def kind_of(source: str | os.PathLike[str] | BinaryIO) -> str:
    """Return the name of the kind of a path or a binary file that can seek."""
    start = _first(source)
    suffix = ""
    if isinstance(source, (str, os.PathLike)):
        if os.path.isdir(source):
            return "video"  # of frames: a signal is never in several files else
        suffix = os.path.splitext(os.fspath(source))[1].lower()
    kinds = KINDS.values()
    named = [k.name for k in kinds if suffix in k.suffixes + k.also]
    found = [
        k.name
        for k in kinds
        if k.start.match(start) and _holds(k, source, k.name in named)
    ]
    found += named
    return found[0] if found else "image"


def kind_called(name: str) -> str:
    """The kind that people call ``name``: of sound speech, the only kind there is."""
    return "speech" if name == "sound" else name


def _holds(
    kind: Kind, source: str | os.PathLike[str] | BinaryIO, named: bool = False
) -> bool:
    """Whether a file that starts like a kind's is of it; True where all are.

    ``named``: whether its name says so, which decides where its bytes do not.
    """
    if kind.holds is None:
        return True
    try:
        if not isinstance(source, (str, os.PathLike)):
            found = kind.holds(source)
        else:
            with places.opened(source) as file:
                found = kind.holds(file)
    except (InputError, OSError):
        return False
    return named if found is None else found


def recognised(path: str) -> bool:
    """Whether a file of a folder is a signal, by its content or one of our suffixes.

    In distant places the name alone says: nothing is read before it is wanted.
    """
    suffix, kinds = os.path.splitext(path)[1].lower(), KINDS.values()
    start = b"" if places.is_far(path) else _first(path)
    starts = any(k.start.match(start) and _holds(k, path) for k in kinds)
    return starts or any(suffix in kind.suffixes for kind in kinds)


def kind_writing(name: str) -> str | None:
    """The kind whose signals are decoded to files of this suffix or name."""
    suffix = os.path.splitext(f"_{name}")[1].lower()
    return next((k.name for k in KINDS.values() if suffix in k.written), None)


def is_plc(path: str) -> bool:
    """Whether a file is one of ours by its content (if near), or by its name."""
    named = path.lower().endswith(".plc")
    return named or (not places.is_far(path) and stored_kind(path) is not None)


def stored_kind(source: str | os.PathLike[str] | BinaryIO) -> str | None:
    """Kind of the signal in a ``.plc`` file; None when its start is no such file."""
    from polycodec.codecs.files.container.file import read_prefix

    try:
        return read_prefix(_first(source), 1 << 62)[0]["kind"]
    except CodecError:
        return None


def _first(source: str | os.PathLike[str] | BinaryIO) -> bytes:
    """The first bytes, without moving; none when it cannot be read: others say why."""
    if not isinstance(source, (str, os.PathLike)):
        at = source.tell()
        data = source.read(_START)
        source.seek(at)
        return data
    if not places.is_far(source) and not os.path.isfile(source):
        return b""  # looking into a pipe would take from it
    try:
        with places.opened(source) as file:
            return file.read(_START)
    except InputError:
        return b""
