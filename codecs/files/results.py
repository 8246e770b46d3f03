# SPDX-License-Identifier: Apache-2.0
"""What an encoding or decoding says of itself, once for each kind and direction.

    result.line()       photo.png -> photo.plc  45.2 kB  0.912 bpp  q 50  0.8 s
    result.as_dict()    the same for programs, fit for JSON
    result.notes        what was not kept, a line each

``bytes`` is the size of the file that was made, or what was read of one; ``seconds``
the time it took; ``data`` the file itself, where bytes came in and no output was named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Result:
    """What all results say; ``input`` and ``output``: paths, "-" for a stream."""

    input: str
    output: str
    model: str
    seconds: float
    data: bytes = field(default=b"", kw_only=True, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which knows no infinity; without those not asked."""
        said = {k: v for k, v in vars(self).items() if v is not None and k != "data"}
        return {k: _plain(v) for k, v in said.items()}

    def _line(self, *parts: str) -> str:
        arrow = f"{self.input} -> {self.output}"
        return "  ".join([arrow, *filter(None, parts), f"{self.seconds:.1f} s"])


@dataclass
class ImageEncoded(Result):
    """``bpp``, bits a pixel, counts every byte of the file.

    ``estimated_bpp``: what the entropy model's tables say of the same latents;
    ``psnr`` in dB, infinite for equal samples, None when it was not asked for;
    ``searched``: with ``--effort``, what it gained.
    """

    bytes: int
    bpp: float
    estimated_bpp: float
    quality: float
    psnr: float | None = None
    searched: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for people."""
        psnr = "" if self.psnr is None else f"PSNR {self.psnr:.2f} dB"
        rate = f"{self.bpp:.3f} bpp", f"q {self.quality:g}"
        gained = ""
        if self.searched is not None:
            gained = f"effort saved {self.searched['saved_percent']:.1f} %"
        return self._line(readable(self.bytes), *rate, psnr, gained)


@dataclass
class ImageDecoded(Result):
    """``width`` and ``height`` of what was decoded, in pixels."""

    bytes: int
    width: int
    height: int
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for people."""
        return self._line(f"{self.width}x{self.height}")


@dataclass
class VideoEncoded(Result):
    """``bpp`` and ``kbps`` count every byte of the file, sound and all.

    ``estimated_bpp``: what the entropy model's tables say of the frames; ``duration``
    in seconds; ``fps``: frames coded in a second, trials and all.
    """

    bytes: int
    bpp: float
    kbps: float
    estimated_bpp: float
    quality: float
    width: int
    height: int
    frames: int
    duration: float
    fps: float
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for people."""
        rate = f"{self.bpp:.3f} bpp", f"{self.kbps:.1f} kbps", f"q {self.quality:g}"
        done = _frames(self.frames), f"{self.fps:.1f} fps"
        return self._line(readable(self.bytes), *rate, *done)


@dataclass
class VideoDecoded(Result):
    """``damaged``: (from, behind the last) of frames that `salvage` filled in.

    ``fps``: frames decoded and written in a second; ``bytes``: read of the file.
    """

    bytes: int
    width: int
    height: int
    frames: int
    fps: float
    damaged: list[tuple[int, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for people."""
        size = f"{self.width}x{self.height}"
        return self._line(size, _frames(self.frames), f"{self.fps:.1f} fps")


@dataclass
class SpeechEncoded(Result):
    """``kbps``, kilobits a second, counts every byte of the file.

    ``estimated_kbps``: what the entropy model's tables say of the same codes;
    ``duration`` in seconds; ``rate`` in Hz of the source; ``channels`` coded.
    """

    bytes: int
    kbps: float
    estimated_kbps: float
    quality: float
    duration: float
    rate: int
    channels: int
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for people."""
        rate = f"{self.kbps:.3f} kbps", f"q {self.quality:g}"
        return self._line(readable(self.bytes), *rate)


@dataclass
class SpeechDecoded(Result):
    """``damaged``: (from, to) in seconds of what ``salvage`` replaced by silence."""

    bytes: int
    duration: float
    rate: int
    channels: int
    damaged: list[tuple[float, float]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for people."""
        return self._line(f"{self.duration:.2f} s of {self.rate} Hz")


@dataclass
class TokenResult(Result):
    """``levels`` of the codes; ``duration`` of the speech in seconds."""

    digest: str
    channels: int
    levels: int
    frames: int
    frame_rate: float
    duration: float
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for people."""
        return self._line(
            f"{self.channels} x {self.levels} x {self.frames} tokens, "
            f"{self.frame_rate:g} frames a second of {self.model} {self.digest}"
        )


@dataclass
class LatentResult(Result):
    """``dimensions`` of a frame; ``of_mel``: numbers a second, as a share of those of a
    mel spectrogram of 80 bands 200 times a second."""

    digest: str
    channels: int
    dimensions: int
    frames: int
    frame_rate: float
    of_mel: float
    duration: float
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for people."""
        return self._line(
            f"{self.channels} x {self.dimensions} x {self.frames} latents",
            f"{self.dimensions * self.frame_rate:g} numbers a second, "
            f"{100 * self.of_mel:.1f} % of a mel spectrogram's",
            f"of {self.model} {self.digest}",
        )


@dataclass
class ImageTokenResult(Result):
    """``planes`` of codes of ``rows`` x ``columns``; ``width`` x ``height`` pixels."""

    digest: str
    planes: int
    rows: int
    columns: int
    width: int
    height: int
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for people."""
        return self._line(
            f"{self.planes} x {self.rows} x {self.columns} tokens of {self.width}x"
            f"{self.height}, {self.model} {self.digest}"
        )


@dataclass
class Packed(Result):
    """A set of ``members`` images; ``before``: bytes of the files they came from.

    ``bpp`` counts every byte of the file; ``left``: files that are no images, or
    hidden, and ``failed``: images that could not be read, with the reasons.
    """

    bytes: int
    members: int
    before: int
    bpp: float
    estimated_bpp: float
    quality: float
    left: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for people."""
        sizes = f"{readable(self.before)} -> {readable(self.bytes)}"
        rate = f"{self.bpp:.3f} bpp", f"q {self.quality:g}"
        return self._line(f"{self.members} images", sizes, *rate)


@dataclass
class Unpacked(Result):
    """``members`` that were taken out; ``bytes``: read of the file."""

    bytes: int
    members: int
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for people."""
        return self._line(f"{self.members} images")


@dataclass
class FeaturesEncoded(Result):
    """Of a picture of ``width`` x ``height`` pixels; ``estimated_bytes``: what the
    entropy model's tables say of the same features."""

    bytes: int
    estimated_bytes: float
    quality: float
    width: int
    height: int
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for people."""
        size = f"{self.width}x{self.height}"
        return self._line(size, readable(self.bytes), f"q {self.quality:g}")


@dataclass
class Classified(Result):
    """``classes``: probabilities of the likeliest by name; ``bytes``: of the file."""

    bytes: int
    classes: dict[str, float]
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for people."""
        told = (f"{name} {100 * p:.1f} %" for name, p in self.classes.items())
        return f"{self.input}: {', '.join(told)}"


Encoded = ImageEncoded | VideoEncoded | SpeechEncoded
Decoded = ImageDecoded | VideoDecoded | SpeechDecoded


def readable(size: int) -> str:
    """Write bytes for people: 812 B, 45.2 kB, 1.50 MB (powers of ten)."""
    if size < 1000:
        return f"{size} B"
    power = min(int(math.log10(size)) // 3, 3)
    value = size / 1000**power
    return f"{value:.{max(0, 2 - int(math.log10(value)))}f} {'kMG'[power - 1]}B"


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _frames(count: int) -> str:
    return f"{count} frame{'' if count == 1 else 's'}"
