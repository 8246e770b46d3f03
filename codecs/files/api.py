# SPDX-License-Identifier: Apache-2.0
"""Files in, files out: what the command line and `polycodec.encode` call.

    photo.png ─┐                  ┌─ api_image    tiles        photo.plc
               ├─ kind_of(file) ──┤
    talk.flac ─┘                  └─ api_speech   seconds      talk.plc

The kind of a signal is recognised from its file. Options that mean nothing for it
are refused by name instead of being ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from polycodec.codecs.files.container.file import Reader
from polycodec.codecs.files.ends import Source, Target, opened, seekable
from polycodec.codecs.files.image import encode as api_image
from polycodec.codecs.files.image.encode import DecodeResult, EncodeResult, read_plc
from polycodec.codecs.files.kinds import kind_of
from polycodec.codecs.files.speech import decode as api_speech_decode
from polycodec.codecs.files.speech import encode as api_speech
from polycodec.codecs.files.speech.damage import with_seconds
from polycodec.codecs.files.speech.decode import SoundDecoded
from polycodec.codecs.files.speech.encode import SoundEncoded
from polycodec.errors import TruncatedError, UsageError

__all__ = [
    "DecodeResult",
    "EncodeResult",
    "SoundDecoded",
    "SoundEncoded",
    "decode",
    "encode",
    "read_plc",
]
Progress = Callable[[int, int], None]


def encode(
    input: Source,
    output: Target | None = None,
    *,
    model: str | None = None,
    quality: float | None = None,
    target_bpp: float | None = None,
    target_kbps: float | None = None,
    target_size: int | None = None,
    min_psnr: float | None = None,
    effort: int = 0,
    tile: int | None = None,
    alpha: str = "lossless",
    channels: str = "mix",
    device: str = "auto",
    checkpoint: str | Path | None = None,
    psnr: bool = False,
    force: bool = False,
    codec: Any = None,
    progress: Progress | None = None,
) -> EncodeResult | SoundEncoded:
    """Encode an image or a sound file to a ``.plc`` file.

    One of ``quality`` (0 … 100, default 50), ``target_bpp`` (at most; bits a pixel,
    of sound bits a second), ``target_kbps`` (sound), ``target_size`` (bytes at most)
    or ``min_psnr`` (images, dB at least) sets the rate.

    Images: ``effort`` steps of refining the latents of this image, a few times the
    plain encoding's time each; the decoder is not concerned. ``tile``: side of tiles
    in pixels, 0 for none, None to choose. ``alpha``: "lossless" or "codec".
    ``psnr``: decode too and report it. Sound: ``channels`` "mix" codes one channel,
    "keep" each. ``codec``: an already loaded codec, to encode many files.
    Raises the errors of `polycodec.errors`.
    """
    input = seekable(input)
    kind = kind_of(input)
    common = {
        "model": model,
        "quality": quality,
        "target_bpp": target_bpp,
        "target_size": target_size,
        "device": device,
        "checkpoint": checkpoint,
        "force": force,
        "codec": codec,
        "progress": progress,
    }
    for_images = {
        "min_psnr": min_psnr,
        "effort": effort,
        "tile": tile,
        "alpha": alpha,
        "psnr": psnr,
    }
    for_sound = {"target_kbps": target_kbps, "channels": channels}
    if kind == "speech":
        _refuse("sound", for_images)
        return api_speech.encode(input, output, **common, **for_sound)
    _refuse("images", for_sound)
    return api_image.encode(input, output, **common, **for_images)


def decode(
    input: Source,
    output: Target | None = None,
    *,
    region: tuple[int, int, int, int] | None = None,
    seconds: tuple[float, float | None] | None = None,
    salvage: bool = False,
    device: str = "auto",
    checkpoint: str | Path | None = None,
    force: bool = False,
    codec: Any = None,
    progress: Progress | None = None,
) -> DecodeResult | SoundDecoded:
    """Decode a ``.plc`` file to an image or sound file, its format by the suffix.

    ``region`` of an image: (x, y, width, height) in pixels; ``seconds`` of sound:
    (from, to), None is the end. Only the tiles or seconds that are needed are read.
    ``salvage``: decode damaged sound, with silence where it is damaged.
    Raises the errors of `polycodec.errors`; on an error nothing is written.
    """
    common = {
        "device": device,
        "checkpoint": checkpoint,
        "force": force,
        "codec": codec,
        "progress": progress,
    }
    with opened(seekable(input)) as source:
        try:
            reader = Reader(source, tolerant=salvage)
        except TruncatedError as error:
            raise with_seconds(error, source) from error
        if reader.header.kind == "speech":
            _refuse("sound", {"region": region})
            return api_speech_decode.decode(
                reader, input, output, seconds=seconds, salvage=salvage, **common
            )
        _refuse("images", {"seconds": seconds, "salvage": salvage})
        return api_image.decode(reader, input, output, region=region, **common)


_UNSET = {"effort": 0, "alpha": "lossless", "psnr": False, "channels": "mix"}


def _refuse(kind: str, options: dict[str, Any]) -> None:
    """UsageError for the first of ``options`` that was given: none is for ``kind``."""
    for name, value in options.items():
        if value not in (None, False) and value != _UNSET.get(name):
            other = {"sound": "images", "images": "sound"}[kind]
            raise UsageError(
                f"{name.replace('_', '-')} is for {other}, found {kind}; leave it out"
            )
