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
class FilmEncode(EncodeOptions):
    reel: int = option(8, "Frames on a reel.", "N", least=1)

@dataclasses.dataclass(frozen=True, kw_only=True)
class FilmDecode(DecodeOptions):
    pass

@dataclasses.dataclass
class FilmEncoded(Result):
    reel: int
    notes: tuple[str, ...] = ("made up",)

    def line(self) -> str:
        return self._line(f"reels of {self.reel}")

def encode(ends):
    with ends.writing() as file:
        file.write(b"coded")
    return FilmEncoded(**ends.about("film/none"), reel=ends.options.reel)

kinds.KINDS["film"] = kinds.Kind(
    name="film",
    words="films",
    suffixes=(".film",),
    start=re.compile(b"FILM"),
    decoded=".film",
    written=(".film",),
    encode=FilmEncode,
    decode=FilmDecode,
)
module = types.ModuleType("polycodec.codecs.files.film.encode")
module.encode = encode
sys.modules["polycodec.codecs.files.film"] = types.ModuleType("film")
sys.modules[module.__name__] = module

from polycodec.cli.main import main
main(sys.argv[1:])
"""


def test_a_new_kind_is_recognised_asked_coded_and_said(process, photo, tmp_path):
    (tmp_path / "clip.film").write_bytes(b"FILM W8 H8\n")
    python = ("-c", NEW_KIND)
    done = process("encode", "clip.film", "--reel", 4, python=python)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(b"clip.film -> clip.plc  reels of 4  ")
    assert done.stderr == b"polycodec: clip.film: made up\n"
    assert (tmp_path / "clip.plc").read_bytes() == b"coded"
    done = process("encode", "clip.film", "--json", "--force", python=python)
    values = json.loads(done.stdout)
    assert values["reel"] == 8 and values["model"] == "film/none"
    for args, message in (
        (("clip.film", "--reel", 0), b"reel is 0; expected a number of at least 1"),
        (("photo.png", "--reel", 4), b"reel is for films, found images; leave it out"),
        (("clip.film", "--tile", 64), b"tile is for images, found films"),
    ):
        done = process("encode", *args, "--force", python=python)
        assert done.returncode == 2 and message in done.stderr, done.stderr


def test_the_table_names_what_the_writers_write():
    from polycodec.codecs.files.image import write as images
    from polycodec.codecs.files.kinds import KINDS
    from polycodec.codecs.files.speech import write as speech
    from polycodec.codecs.files.video import write as videos

    assert KINDS["image"].written == tuple(images.FORMATS)
    assert KINDS["video"].written[: len(videos.FORMATS)] == tuple(videos.FORMATS)
    assert set(KINDS["video"].written[len(videos.FORMATS) :]) <= set(images.FORMATS)
    assert KINDS["speech"].written == tuple(speech.FORMATS)
    for kind in KINDS.values():
        assert kind.decoded in kind.written
