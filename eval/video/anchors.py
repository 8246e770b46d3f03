# SPDX-License-Identifier: Apache-2.0
"""Classical codecs that ours are compared with, through PyAV; a setting is the CRF.

| name            | encoder | options, beside 8-bit 4:2:0                        |
|-----------------|---------|----------------------------------------------------|
| `x264`          | libx264 | preset medium                                      |
| `x264-intra`    | libx264 | the same, every frame a key frame                  |
| `x265`          | libx265 | preset medium                                      |
| `x265-veryslow` | libx265 | preset veryslow                                    |
| `av1`           | SVT-AV1 | preset 6                                           |

All with random access as they do it unless told, tuned for nothing, one thread. The
bytes of the elementary stream (of AV1 with its IVF heads) make the rate, but for the
note in which x264 and x265 write their version and options once: 0.7 and 2.3 kB, which
nobody needs to decode and which are half of a short clip.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from polycodec.eval.subjects import Coded, Decoded, Subject
from polycodec.eval.video import clip

_X265 = "log-level=none:pools=none:frame-threads=1"
# How NAL units begin that are SEI messages of user data (type 5).
_NOTES = {"h264": b"\x06\x05", "hevc": b"\x4e\x01\x05"}


@dataclass(frozen=True)
class AvAnchor(Subject):
    """One encoder of FFmpeg with fixed options and one free setting."""

    name: str
    label: str
    codec: str
    format: str
    options: Mapping[str, str]
    settings: tuple[float, ...]
    control: str = "crf"
    counts: str = "the elementary stream without its encoder's note"
    kind: str = field(default="anchor", init=False)

    def missing(self) -> str | None:
        """Say why this PyAV cannot encode with it, or None."""
        try:
            import av

            av.Codec(self.codec, "w")
        except ImportError:
            return "PyAV is not installed"
        except Exception:  # av.codec.UnknownCodecError, where it is called so
            return f"this PyAV was built without {self.codec}"
        return None

    def versions(self) -> dict[str, Any]:
        """List PyAV, FFmpeg's libavcodec, and the fixed options."""
        import av

        library = ".".join(map(str, av.library_versions["libavcodec"]))
        about = {"PyAV": av.__version__, "libavcodec": library}
        about |= {"encoder": self.codec, "rate": self.counts}
        return {**about, "options": dict(self.options)}

    def compress(self, signal: np.ndarray, setting: float) -> Coded:
        """Encode a clip into memory with this CRF."""
        import av

        os.environ.setdefault("SVT_LOG", "1")  # errors only; it talks for a page else
        _, height, width = clip.size_of(signal)
        memory, begin = io.BytesIO(), time.perf_counter()
        options = {**self.options, "crf": f"{setting:g}"}
        with av.open(memory, "w", format=self.format) as out:
            stream = out.add_stream(self.codec, rate=Fraction(25), options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.thread_count = 1
            for frame in signal:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "yuv420p")))
            out.mux(stream.encode())
        seconds, data = time.perf_counter() - begin, memory.getvalue()
        note = _NOTES.get(self.format)
        return Coded(data, seconds, counted=len(data) - noted(data, note))

    def decompress(self, data: bytes) -> Decoded:
        """Decode all frames."""
        import av

        begin = time.perf_counter()
        with av.open(io.BytesIO(data), "r", format=self.format) as container:
            frames = [f.to_ndarray() for f in container.decode(video=0)]
        return Decoded(np.stack(frames), time.perf_counter() - begin)


def noted(data: bytes, head: bytes | None) -> int:
    """Bytes of the NAL units of an Annex B stream that begin with ``head``."""
    if head is None:
        return 0
    starts = [found.start() for found in re.finditer(rb"\x00?\x00\x00\x01", data)]
    units = zip(starts, [*starts[1:], len(data)], strict=True)
    cut = (data[begin:end] for begin, end in units)
    return sum(len(u) for u in cut if u.lstrip(b"\0")[1:].startswith(head))


_H264 = {"preset": "medium"}
ANCHORS: dict[str, AvAnchor] = {
    anchor.name: anchor
    for anchor in (
        AvAnchor(
            *("x264", "x264 medium", "libx264", "h264", _H264),
            settings=(18, 23, 28, 33, 38),
        ),
        AvAnchor(
            *("x264-intra", "x264 medium, all intra", "libx264", "h264"),
            options={**_H264, "g": "1"},
            settings=(18, 23, 28, 33, 38),
        ),
        AvAnchor(
            *("x265", "x265 medium", "libx265", "hevc"),
            options={"preset": "medium", "x265-params": _X265},
            settings=(18, 23, 28, 33, 38),
        ),
        AvAnchor(
            *("x265-veryslow", "x265 veryslow", "libx265", "hevc"),
            options={"preset": "veryslow", "x265-params": _X265},
            settings=(18, 23, 28, 33, 38),
        ),
        AvAnchor(
            *("av1", "SVT-AV1 preset 6", "libsvtav1", "ivf"),
            options={"preset": "6", "svtav1-params": "lp=1"},
            settings=(24, 32, 40, 48, 56),
        ),
    )
}
DEFAULT_ANCHORS = ("x264", "x264-intra", "x265", "av1")
