# SPDX-License-Identifier: Apache-2.0
"""What can be asked of encoding and decoding, once for each kind and direction.

    FileOptions ─┬─ EncodeOptions ─┬─ ImageEncode      a field is an option of
                 │                 ├─ VideoEncode      `polycodec.encode`, `decode`,
                 │                 └─ SpeechEncode     of the command line, and of the
                 ├─ DecodeOptions ─┬─ ImageDecode      refusal "tile is for images"
                 │                 ├─ VideoDecode
                 │                 └─ SpeechDecode
                 ├─ TokenOptions ── ConvertOptions
                 └─ LatentOptions, FeatureOptions; ReadOptions ── ClassifyOptions

`keywords.py` shows those of all kinds together to editors and type checkers. An object
of these classes is valid: what cannot be is refused when it is made, before
anything heavy is loaded. Light on purpose: ``polycodec --help`` imports this.
"""

from __future__ import annotations

import difflib
import inspect
import math
import numbers
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from polycodec.errors import UsageError


def option(
    default: Any,
    help: str,
    form: str | None = None,
    *,
    short: str | None = None,
    rate: bool = False,
    least: float | None = None,
    most: float = math.inf,
    one_of: tuple[str, ...] = (),
) -> Any:
    """Declare a field. ``form``: how its value is written; ``rate``: it sets the rate.

    Numbers lie between ``least`` and ``most``; a text is ``one_of`` those named.
    """
    metadata: dict[str, Any] = {"help": help, "short": short, "rate": rate}
    metadata["form"] = form or "|".join(one_of) or None
    metadata |= {"least": least, "most": most, "one_of": one_of}
    return field(default=default, metadata=metadata)


Chosen = typing.TypeVar("Chosen", bound="Options")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of all: values are checked when an object is made."""

    def __post_init__(self) -> None:
        known, hints = fields(self), typing.get_type_hints(type(self))
        for f in known:
            if not _fits(value := getattr(self, f.name), hints[f.name]):
                raise UsageError(f"{spelt(f.name)} is {value!r:.60}; expected {f.type}")
        check({f.name: f for f in known}, vars(self))


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of the type that an option is declared with."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is tuple and parts[1:] == (...,):
        parts = parts[:1] * len(value) if isinstance(value, (tuple, list)) else parts
    if origin is tuple:
        same = isinstance(value, (tuple, list)) and len(value) == len(parts)
        return same and all(map(_fits, value, parts))
    if origin or kind is Any:  # lists and tables: whoever reads them says more
        return True
    if kind in (int, float) and isinstance(value, bool):
        return False
    wanted = {int: numbers.Integral, float: numbers.Real}
    return isinstance(value, wanted.get(kind, kind))


@dataclass(frozen=True, kw_only=True)
class DeviceOptions(Options):
    """What every command that runs networks is asked."""

    device: str = option("auto", "Where the networks run.", "auto|cpu|cuda")


@dataclass(frozen=True, kw_only=True)
class ReadOptions(DeviceOptions):
    """What every command that reads ``.plc`` files is asked."""

    checkpoint: str | Path | None = option(  # noqa: RUF009
        None, "Weights of an exported run.", "RUN"
    )


@dataclass(frozen=True, kw_only=True)
class FileOptions(ReadOptions):
    """What every command that turns files into files is asked."""

    force: bool = option(False, "Replace existing files.")


def _quality(help: str) -> Any:
    """Declare the field that sets the rate as a share of what a model can do."""
    return option(None, help, "0..100", short="-q", rate=True, least=0, most=100)


@dataclass(frozen=True, kw_only=True)
class CodingOptions(FileOptions):
    """What is asked of all that makes ``.plc`` files."""

    model: str | None = option(None, "See polycodec models.", "MODEL", short="-m")
    quality: float | None = _quality(
        "50 unless told. Photographs by image/default: 27 dB at 5, 33 at 44, 40 at 96."
    )


@dataclass(frozen=True, kw_only=True)
class EncodeOptions(CodingOptions):
    """What is asked of encoding any kind of signal."""

    target_bpp: float | None = option(
        *(None, "At most F bits per pixel, of speech per second.", "F"),
        rate=True,
        least=0,
    )
    target_size: int | None = option(
        None, "At most that many bytes a file.", "50kB", rate=True, least=0
    )
    as_: str | None = option(
        *(None, "What the input is taken for; of videos sound is their sound alone."),
        one_of=("image", "video", "sound"),
    )


EFFORT = "Steps of fitting latents, or a fitted model, to this signal."


@dataclass(frozen=True, kw_only=True)
class ImageEncode(EncodeOptions):
    """What is asked of encoding an image."""

    min_psnr: float | None = option(
        None, "Smallest file of at least DB.", "DB", rate=True, least=0
    )
    effort: int = option(0, EFFORT, "N", least=0)
    tile: int | None = option(None, "Side of tiles in pixels, 0: none.", "N")
    alpha: str = option(
        "lossless", "How transparency is coded.", one_of=("lossless", "codec")
    )
    roi: str | Path | None = option(  # noqa: RUF009
        None, "A picture of that size, white where detail is wished for.", "MASK"
    )
    psnr: bool = option(False, "Decode too, and report the PSNR.")


_KBPS = None, "Speech, video: at most F kilobits a second.", "F"


@dataclass(frozen=True, kw_only=True)
class FitOptions(EncodeOptions):
    """What is asked of encoding what a model may be fitted to, step by step."""

    effort: int = option(0, EFFORT, "N", least=0)
    time_budget: float | None = option(
        None, "Models that are fitted: how long, without start-up.", "5m", least=0.1
    )
    resume: bool = option(
        False, "Models that are fitted: go on where a fit was stopped."
    )


@dataclass(frozen=True, kw_only=True)
class VideoEncode(FitOptions):
    """What is asked of encoding a video; ``fps``: in place of what the file says."""

    target_kbps: float | None = option(*_KBPS, rate=True, least=0)
    audio: str = option(
        "copy",
        "Video: its sound as it is, coded as speech, or left out.",
        one_of=("copy", "speech", "none"),
    )
    gop: int | None = option(None, "Video: frames in a group.", "N", least=1, most=4096)
    fps: float | None = option(
        None, "Video: frames a second, of a folder 25.", "F", least=0.001, most=1e6
    )


@dataclass(frozen=True, kw_only=True)
class SpeechEncode(FitOptions):
    """What is asked of encoding speech."""

    target_kbps: float | None = option(*_KBPS, rate=True, least=0)
    channels: str = option(
        "mix", "Speech: one channel, or each.", one_of=("mix", "keep")
    )


@dataclass(frozen=True, kw_only=True)
class DecodeOptions(FileOptions):
    """What is asked of decoding any kind of signal."""

    format: str | None = option(
        None, "Such as webp or flac; where OUT does not say it.", "SUFFIX"
    )


@dataclass(frozen=True, kw_only=True)
class ImageDecode(DecodeOptions):
    """What is asked of decoding an image; ``region``: x, y, width, height."""

    region: tuple[int, int, int, int] | None = option(
        None, "Decode this part only, in pixels.", "X,Y,W,H"
    )
    size: int | None = option(
        None, "A preview: no side longer than N pixels.", "N", least=1
    )


_SALVAGE = "Damaged files: silence, or the frame before, for what is damaged."


@dataclass(frozen=True, kw_only=True)
class VideoDecode(DecodeOptions):
    """What is asked of decoding a video; ``frames``: from, to (None: the end)."""

    frames: tuple[int, int | None] | None = option(
        None, "Video: frames M to N - 1 only.", "M:N"
    )
    salvage: bool = option(False, _SALVAGE)


@dataclass(frozen=True, kw_only=True)
class SpeechDecode(DecodeOptions):
    """What is asked of decoding speech; ``seconds``: from, to (None: the end)."""

    seconds: tuple[float, float | None] | None = option(
        None, "Speech: decode this part only.", "A:B"
    )
    salvage: bool = option(False, _SALVAGE)


@dataclass(frozen=True, kw_only=True)
class TokenOptions(CodingOptions):
    """What is asked of turning speech or images into tokens."""

    quality: float = option(
        100.0,
        "Levels, or how fine a map is; all: 100.",
        "0..100",
        short="-q",
        least=0,
        most=100,
    )
    channels: str = option(
        "mix", "Speech: one channel, or each.", one_of=("mix", "keep")
    )


@dataclass(frozen=True, kw_only=True)
class FeatureOptions(CodingOptions):
    """What is asked of coding a picture's features."""

    quality: float | None = _quality(
        "50 unless told; more is nearer to the picture's own features."
    )


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions(ReadOptions):
    """What is asked of classifying pictures by their features."""

    top: int = option(3, "Classes that are told, the likeliest first.", "N", least=1)


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(TokenOptions):
    """What is asked of the command tokens."""

    continuous: bool = option(False, "Speech: latents before any rounding instead.")


@dataclass(frozen=True, kw_only=True)
class LatentOptions(FileOptions):
    """What is asked of the latents of speech."""

    model: str | None = option(None, "See polycodec models.", "MODEL", short="-m")
    channels: str = option("mix", "One channel, or each.", one_of=("mix", "keep"))


def options_of(cls: type[Chosen], given: Mapping[str, Any]) -> Chosen:
    """The options of a function with one kind; UsageError names the nearest."""
    for name in given:
        check_name(name, merged([cls]))
    return cls(**given)


def spelt(name: str) -> str:
    """An option's name as commands and messages have it: ``as_`` is no keyword."""
    return name.rstrip("_").replace("_", "-")


def merged(classes: Iterable[type[Options]]) -> dict[str, Field[Any]]:
    """Return every option of several classes by name, each once."""
    return {f.name: f for cls in classes for f in fields(cls)}


def check(known: Mapping[str, Field[Any]], given: Mapping[str, Any]) -> None:
    """Refuse values that cannot be, and two that set the rate; UsageError."""
    for name, value in given.items():
        about, shown = known[name].metadata, spelt(name)
        if value is None:
            continue
        if name == "device" and not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            raise UsageError(f"'{value}' is no device; expected auto, cpu or cuda")
        if about["one_of"] and value not in about["one_of"]:
            choices = " or ".join(about["one_of"])
            raise UsageError(f"{shown} is '{value}'; expected {choices}")
        least, most = about["least"], about["most"]
        if least is not None and not (least <= value <= most and math.isfinite(value)):
            wanted = (
                f"of at least {least}"
                if most == math.inf
                else f"from {least} to {most}"
            )
            raise UsageError(f"{shown} is {value:g}; expected a number {wanted}")
    rates = [n for n, v in given.items() if known[n].metadata["rate"] and v is not None]
    if len(rates) > 1:
        shown = " and ".join(map(spelt, rates))
        raise UsageError(f"{shown} exclude each other; each sets the rate; give one")


def check_name(name: str, known: Iterable[str]) -> None:
    """UsageError for what is no option, naming the nearest."""
    known = list(known)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0) or [""]
        raise UsageError(f"no option is called '{name}'; nearest: {near[0]}")


def choose(
    classes: Mapping[str, type[Options]], kind: str, given: Mapping[str, Any]
) -> Any:
    """Make the options of ``kind``; ``classes``: words for a kind -> its options.

    UsageError for what is an option of other kinds only (unless it is the default), and
    for what is none at all, naming the nearest.
    """
    own, known = merged([classes[kind]]), merged(classes.values())
    for name, value in given.items():
        check_name(name, known)
        if name not in own and value != known[name].default:
            others = [k for k, cls in classes.items() if name in merged([cls])]
            raise UsageError(
                f"{spelt(name)} is for {' and '.join(others)}, found "
                f"{kind}; leave it out"
            )
    return classes[kind](**{n: v for n, v in given.items() if n in own})


def parameters(classes: Iterable[type[Options]]) -> dict[str, inspect.Parameter]:
    """Return the options of several classes as keyword parameters, with their types."""
    result: dict[str, inspect.Parameter] = {}
    for cls in classes:
        types = typing.get_type_hints(cls)
        for f in fields(cls):
            result[f.name] = inspect.Parameter(
                f.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=f.default,
                annotation=types[f.name],
            )
    return result
