# SPDX-License-Identifier: Apache-2.0
"""Classical speech codecs that ours are compared with.

| name       | what a setting is | how                                              |
|------------|-------------------|--------------------------------------------------|
| `opus`     | kbit/s            | libopus through PyAV, CBR, speech, 20 ms frames  |
| `opus-vbr` | kbit/s, nominal   | the same with its own variable rate              |
| `codec2`   | kbit/s            | the programs c2enc and c2dec, at 8 kHz, if there |

Both are really written and really read: Opus as an Ogg file, whose packets' bytes make
the rate. Complexity 10, the strongest. Opus is narrow-band below 9 to 10 kbit/s by its
own decision. Codec2 is parametric and narrow-band; its bits are those of its file.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import pathlib
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from polycodec.codecs.measures.speech import RATE
from polycodec.errors import InputError
from polycodec.eval.speech import wave
from polycodec.eval.subjects import Coded, Decoded, Subject

FRAME = RATE // 50  # samples of 20 ms


@dataclass(frozen=True)
class OpusAnchor(Subject):
    """libopus with fixed options; a setting is its nominal rate in kbit/s."""

    name: str
    label: str
    options: dict[str, str]
    settings: tuple[float, ...] = (6, 8, 12, 16, 24)
    kind: str = field(default="anchor", init=False)
    control: str = field(default="kbps", init=False)
    counts: str = field(default="the packets, without the Ogg file", init=False)
    delayed: bool = field(default=True, init=False)

    def missing(self) -> str | None:
        """Say why PyAV cannot write Opus here, or None."""
        if importlib.util.find_spec("av") is None:
            return "PyAV (av) is not installed"
        import av

        if "libopus" not in av.codecs_available:
            return "this PyAV was built without libopus"
        return None

    def versions(self) -> dict[str, Any]:
        """PyAV, its libavcodec and the options."""
        import av

        return {
            "av": importlib.metadata.version("av"),
            "libavcodec": ".".join(map(str, av.library_versions["libavcodec"])),
            "options": self.options,
        }

    def compress(self, signal: np.ndarray, setting: float) -> Coded:
        """Write an Ogg file into memory and count its packets' bytes."""
        import av

        memory, counted = io.BytesIO(), 0
        begin = time.perf_counter()
        with av.open(memory, "w", format="ogg") as file:
            stream = file.add_stream(
                "libopus", rate=RATE, layout="mono", options=dict(self.options)
            )
            stream.bit_rate = round(1000 * setting)
            for start in range(0, len(signal), FRAME):
                piece = wave.frame(signal[start : start + FRAME])
                piece.pts = start
                for packet in stream.encode(piece):
                    counted += packet.size
                    file.mux(packet)
            for packet in stream.encode(None):
                counted += packet.size
                file.mux(packet)
        seconds = time.perf_counter() - begin
        return Coded(memory.getvalue(), seconds, counted=counted)

    def decompress(self, data: bytes) -> Decoded:
        """Decode the Ogg file by FFmpeg at 16 kHz."""
        import av

        begin = time.perf_counter()
        with av.open(io.BytesIO(data), format="ogg") as file:
            samples = wave.mixed(file.decode(audio=0))
        return Decoded(samples, time.perf_counter() - begin)


@dataclass(frozen=True)
class Codec2Anchor(Subject):
    """The programs c2enc and c2dec of Codec2; a setting is one of its modes."""

    name: str = "codec2"
    label: str = "Codec2"
    settings: tuple[float, ...] = (1.2, 2.4, 3.2)
    kind: str = field(default="anchor", init=False)
    control: str = field(default="kbps", init=False)
    counts: str = field(default="its file", init=False)
    delayed: bool = field(default=True, init=False)

    def missing(self) -> str | None:
        """Say which program is not there, or None."""
        for program in ("c2enc", "c2dec"):
            if shutil.which(program) is None:
                return f"the program {program} is not installed"
        return None

    def versions(self) -> dict[str, Any]:
        """Size of the program, since it does not tell its version."""
        program = pathlib.Path(shutil.which("c2enc") or "c2enc")
        return {"c2enc bytes": program.stat().st_size}

    def compress(self, signal: np.ndarray, setting: float) -> Coded:
        """Resample to 8 kHz and run c2enc; the mode goes in front of its bytes."""
        mode = str(round(1000 * setting))
        raw = wave.steps(wave.resampled(signal, RATE, RATE // 2)).tobytes()
        begin = time.perf_counter()
        data = _through("c2enc", mode, raw)
        seconds = time.perf_counter() - begin
        return Coded(mode.encode() + b"\n" + data, seconds, counted=len(data))

    def decompress(self, data: bytes) -> Decoded:
        """Run c2dec and resample back to 16 kHz."""
        mode, _, bits = data.partition(b"\n")
        begin = time.perf_counter()
        raw = np.frombuffer(_through("c2dec", mode.decode(), bits), "<i2")
        seconds = time.perf_counter() - begin
        narrow = raw.astype(np.float32) / 32768.0
        return Decoded(wave.resampled(narrow, RATE // 2, RATE), seconds)


def _through(program: str, mode: str, data: bytes) -> bytes:
    """Run ``program MODE in out`` on files; InputError with what it said."""
    with tempfile.TemporaryDirectory(prefix="polycodec-eval-") as folder:
        # Names that do not end in .c2: with that end a header would be written.
        source, target = pathlib.Path(folder, "in.bit"), pathlib.Path(folder, "out.bit")
        source.write_bytes(data)
        done = subprocess.run(
            [program, mode, str(source), str(target)],
            capture_output=True,
            check=False,
            timeout=600,
        )
        if done.returncode or not target.is_file():
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise InputError(
                f"{program} {mode} failed with {done.returncode}: {said[-200:]}; "
                "expected a file; leave the anchor codec2 out"
            )
        return target.read_bytes()


_VOICE = {"application": "voip", "frame_duration": "20", "compression_level": "10"}
ANCHORS: dict[str, Subject] = {
    anchor.name: anchor
    for anchor in (
        OpusAnchor("opus", "Opus", {**_VOICE, "vbr": "off"}),
        OpusAnchor("opus-vbr", "Opus, variable rate", {**_VOICE, "vbr": "on"}),
        Codec2Anchor(),
    )
}
DEFAULT_ANCHORS = ("opus", "opus-vbr", "codec2")
