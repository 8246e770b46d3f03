# SPDX-License-Identifier: Apache-2.0
"""A kind of signal is one entry of the table and a folder: nothing else names it."""

from __future__ import annotations

import json

# A kind that codes nothing: its encoder writes down what it was asked.
NEW_KIND = """
import dataclasses, re, sys, types
from polycodec.codecs.files import kinds
from polycodec.codecs.files.options import DecodeOptions, EncodeOptions, option
from polycodec.codecs.files.results import Result

@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoEncode(EncodeOptions):
    gop: int = option(8, "Frames in a group.", "N", least=1)

@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoDecode(DecodeOptions):
    pass

@dataclasses.dataclass
class VideoEncoded(Result):
    gop: int
    notes: tuple[str, ...] = ("made up",)

    def line(self) -> str:
        return self._line(f"groups of {self.gop}")

def encode(ends):
    with ends.writing() as file:
        file.write(b"coded")
    return VideoEncoded(**ends.about("video/none"), gop=ends.options.gop)

kinds.KINDS["video"] = kinds.Kind(
    name="video",
    words="videos",
    suffixes=(".y4m",),
    start=re.compile(b"YUV4MPEG2"),
    decoded=".y4m",
    written=(".y4m",),
    encode=VideoEncode,
    decode=VideoDecode,
)
module = types.ModuleType("polycodec.codecs.files.video.encode")
module.encode = encode
sys.modules["polycodec.codecs.files.video"] = types.ModuleType("video")
sys.modules[module.__name__] = module

from polycodec.cli.main import main
main(sys.argv[1:])
"""


def test_a_new_kind_is_recognised_asked_coded_and_said(process, photo, tmp_path):
    (tmp_path / "clip.y4m").write_bytes(b"YUV4MPEG2 W8 H8\n")
    python = ("-c", NEW_KIND)
    done = process("encode", "clip.y4m", "--gop", 4, python=python)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(b"clip.y4m -> clip.plc  groups of 4  ")
    assert done.stderr == b"polycodec: clip.y4m: made up\n"
    assert (tmp_path / "clip.plc").read_bytes() == b"coded"
    done = process("encode", "clip.y4m", "--json", "--force", python=python)
    values = json.loads(done.stdout)
    assert values["gop"] == 8 and values["model"] == "video/none"
    for args, message in (
        (("clip.y4m", "--gop", 0), b"gop is 0; expected a number of at least 1"),
        (("photo.png", "--gop", 4), b"gop is for videos, found images; leave it out"),
        (("clip.y4m", "--tile", 64), b"tile is for images, found videos"),
    ):
        done = process("encode", *args, "--force", python=python)
        assert done.returncode == 2 and message in done.stderr, done.stderr


def test_the_table_names_what_the_writers_write():
    from polycodec.codecs.files.image import write as images
    from polycodec.codecs.files.kinds import KINDS
    from polycodec.codecs.files.speech import write as speech

    assert KINDS["image"].written == tuple(images.FORMATS)
    assert KINDS["speech"].written == tuple(speech.FORMATS)
    for kind in KINDS.values():
        assert kind.decoded in kind.written
