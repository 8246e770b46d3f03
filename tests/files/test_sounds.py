# SPDX-License-Identifier: Apache-2.0
"""Every sound format: equal, noted, or refused by name; nothing lost without a word.

    whole, cut at a dozen places, with a part zeroed, joined to itself, its sizes unset

`sounds.zip` was made by ffmpeg and sox (`tests/sounds.py`); headers that no program
writes on purpose are made by hand.
"""

from __future__ import annotations

import collections
import io
import struct
import zipfile

import numpy as np
import pytest
import sounds
from PIL import Image

from polycodec.codecs.files.kinds import kind_of
from polycodec.codecs.files.speech.check import check
from polycodec.codecs.files.speech.read import open_speech
from polycodec.errors import InputError

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("av")

with zipfile.ZipFile(sounds.ARCHIVE) as archive:
    SOUNDS = {name: archive.read(name) for name in archive.namelist()}
# Samples more than the source's that a coder adds before and behind it, at most.
ADDED = 3000
# Formats of samples: as many as there were.
EXACT = {"wav", "w64", "aiff", "au", "caf", "flac", "wv", "tta", "sph", "aifc", "snd"}
# A row of frames of one size, or of pages whose last is lost: no length is said.
NO_LENGTH = {"layer2.mp2", "plain.mp3", "tagged.mp3", "creative.voc"}


def read(data: bytes) -> tuple[np.ndarray, list[str], dict[str, str]]:
    with open_speech(io.BytesIO(data)) as speech:
        x = np.concatenate(list(speech.blocks(1000)))
        return x, speech.notes, speech.info.tags


def heard(data: bytes) -> tuple[int, list[str]]:
    """Samples and notes; (-1, the error) where it is refused by name."""
    try:
        x, notes, _ = read(data)
    except InputError as error:
        assert "cannot read" in str(error) or "holds no samples" in str(error)
        return -1, [str(error)]
    return len(x), notes


every = pytest.mark.parametrize("name", SOUNDS)


@every
def test_a_whole_file_is_read_whole(name):
    data = SOUNDS[name]
    x, notes, _ = read(data)
    assert kind_of(io.BytesIO(data)) == "speech" or name == "stream.ts"
    with open_speech(io.BytesIO(data)) as speech:
        expected = sounds.SAMPLES * speech.info.rate // sounds.RATE
    more = 0 if name.partition(".")[2] in EXACT else ADDED
    if name in ("adpcm.wav", "gsm.wav", "mpeg3.wav", "mpeg2.wav"):
        more = ADDED
    least = expected - (1100 if name in ("windows.wma", "flash.flv") else 8)
    assert least <= len(x) <= expected + more, (len(x), expected)
    piped = name in ("piped.wav", "piped.w64")
    assert bool(notes) == piped, notes


@every
def test_cuts_are_refused_or_noted(name):
    data = SOUNDS[name]
    whole, notes = heard(data)
    cells = collections.Counter()
    places = [*np.linspace(0.1, 0.99, 12), 1 - 1 / len(data)]
    for part in places:
        found, said = heard(data[: int(part * len(data))])
        verdict = "refused" if found < 0 else "equal" if found >= whole else "silent"
        if verdict == "silent" and said != notes:
            verdict = "noted"
        if verdict == "silent" and "piped" in name:
            verdict = "noted" if said else "silent"
        cells[verdict] += 1
    allowed = 2 if name in NO_LENGTH else 0
    assert cells["silent"] <= allowed, cells


@pytest.mark.parametrize("name", ["xing.mp3", "plain.mp3", "tagged.mp3", "layer2.mp2"])
def test_mpeg_audio_is_read_to_its_end(name):
    """Also joined files, which have headers and tags of the second in the middle."""
    data = SOUNDS[name]
    one, _ = heard(data)
    two, _ = heard(data + data)
    assert two >= 2 * one - 1200


@pytest.mark.parametrize("name", ["vorbis.ogg", "opus.opus"])
def test_chained_streams_are_read_to_their_end(name):
    one, _ = heard(SOUNDS[name])
    two, _ = heard(SOUNDS[name] * 2)
    assert two >= 2 * one


@pytest.mark.parametrize(
    ("first", "second"),
    [("vorbis.ogg", "opus.opus"), ("opus.opus", "vorbis.ogg"), ("flac.flac",) * 2],
)
def test_streams_that_no_library_reads_together_are_named(first, second):
    data = SOUNDS[first]
    found, said = heard(data + SOUNDS[second])
    assert found < 0 and f"another stream begins at byte {len(data)}" in said[0]


def test_chained_streams_of_another_rate_are_named():
    parts = []
    for rate in (16000, 22050):
        out = io.BytesIO()
        soundfile.write(out, np.zeros(8000), rate, format="OGG", subtype="VORBIS")
        parts.append(out.getvalue())
    found, said = heard(b"".join(parts))
    assert found < 0 and "another stream begins" in said[0]


@pytest.mark.parametrize("name", ["vorbis.ogg", "opus.opus", "flac.flac", "wavpack.wv"])
def test_damage_that_checksums_show_is_refused(name):
    data, middle = SOUNDS[name], len(SOUNDS[name]) * 9 // 10
    found, said = heard(data[:middle] + bytes(40) + data[middle + 40 :])
    assert found < 0, said


def test_a_missing_page_and_a_missing_end(monkeypatch):
    data = SOUNDS["opus.opus"]
    starts = [k for k in range(len(data)) if data[k : k + 4] == b"OggS"]
    assert len(starts) >= 3
    found, said = heard(data[: starts[-1]])
    assert found < 0 or "no last page" in said[0]
    found, said = heard(data + b"TAG" + bytes(125))
    assert found == heard(data)[0] and "behind the last page" in said[0]


@pytest.mark.parametrize(
    "name", ["xing.mp3", "flac.flac", "opus.opus", "vorbis.ogg", "vorbis.mkv"]
)
def test_tags_are_kept(name):
    _, _, tags = read(SOUNDS[name])
    wanted = {k.lower(): v for k, v in sounds.TAGS.items()}
    assert wanted.items() <= tags.items()


def wav(
    data: bytes = b"\1\0" * 400,
    *,
    before: bytes = b"",
    behind: bytes = b"",
    size: int | None = None,
    riff: int | None = None,
    start: bytes = b"RIFF",
) -> bytes:
    """A WAV file of 16-bit samples, with any sizes."""
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16)
    head = struct.pack("<4sI", b"data", len(data) if size is None else size)
    body = b"WAVE" + fmt + before + head + data + behind
    return start + struct.pack("<I", len(body) if riff is None else riff) + body


@pytest.mark.parametrize("size", [0, 100, 844, 0xFFFFFFFF, 0x7FFFF000, 0x80000000])
def test_sizes_that_were_never_filled_in(size):
    found, notes = heard(wav(size=size, riff=size))
    assert found == 400 and "header" in notes[0]


def test_a_list_behind_the_samples_of_wave64():
    data = SOUNDS["pcm.w64"]
    name = b"list" + bytes.fromhex("2f91cf11a5d628db04c10000")
    behind = name + struct.pack("<Q", 24 + 8) + bytes(8)
    found, notes = heard(data + bytes(-len(data) % 8) + behind)
    assert found == sounds.SAMPLES and notes == ["chunks that are left out: list"]


def test_samples_that_look_like_a_chunk_are_samples():
    """A size of some time before, and then the letters of a name by chance."""
    found, notes = heard(wav(b"\1\0" * 50 + b"ABCDzzzz" + b"\1\0" * 346, size=100))
    assert found == 400 and "counts 100 bytes" in notes[0]


@pytest.mark.parametrize("size", [900, 10_000, 0x7FFE0000, 0xC0000000])
def test_other_sizes_are_cuts(size):
    """Also those of more than 2 GB that are really there in most files."""
    found, said = heard(wav(size=size))
    assert found < 0 and f"expected {size} bytes" in said[0]


def test_rf64_that_declares_more_than_there_is():
    ds64 = struct.pack("<4sIQQQI", b"ds64", 28, 1 << 41, 1 << 40, 1 << 39, 0)
    found, said = heard(wav(before=ds64, size=0xFFFFFFFF, start=b"RF64"))
    assert found < 0 and str(1 << 40) in said[0]


def test_chunks_behind_the_samples_of_rf64():
    ds64 = struct.pack("<4sIQQQI", b"ds64", 28, 0, 800, 400, 0)
    cue = struct.pack("<4sII", b"cue ", 4, 0)
    found, notes = heard(wav(before=ds64, size=0xFFFFFFFF, start=b"RF64", behind=cue))
    assert (found, notes) == (400, ["chunks that are left out: cue"])


@pytest.mark.parametrize("missing", [0, 1 << 20])
def test_wav_of_more_than_two_gigabytes(tmp_path, missing):
    """Sizes as large as placeholders are sizes all the same."""
    size = 3_000_000_000
    with (tmp_path / "long.wav").open("w+b") as file:
        file.write(wav(b"", size=size, riff=36 + size))
        file.truncate(44 + size - missing)  # takes no room on the disk
        if missing:
            with pytest.raises(InputError, match=f"expected {size} bytes"):
                check(file)
        else:
            assert check(file).notes == []


@pytest.mark.parametrize(
    "name", ["pcm.aiff", "pcm.w64", "pcm.au", "pcm.caf", "rf64.wav"]
)
@pytest.mark.parametrize("value", [0, 255])
def test_sizes_of_other_containers_that_were_never_filled_in(name, value):
    """Read to the end with a note, or refused by name; never a part of it."""
    data = bytearray(SOUNDS[name])
    at, width = {
        "pcm.aiff": (data.find(b"SSND") + 4, 4),
        "pcm.w64": (data.find(b"data") + 16, 8),
        "pcm.au": (8, 4),
        "pcm.caf": (data.find(b"data") + 4, 8),
        "rf64.wav": (data.find(b"ds64") + 16, 8),
    }[name]
    data[at : at + width] = bytes([value]) * width
    found, said = heard(bytes(data))
    assert found < 0 or (found >= sounds.SAMPLES and said), (found, said)


def test_an_empty_wav_is_empty():
    assert "no samples" in heard(wav(b"", riff=36))[1][0]
    info = struct.pack("<4sI4s", b"LIST", 4, b"INFO")
    assert "no samples" in heard(wav(b"", behind=info))[1][0]


def test_what_stands_beside_the_samples():
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack("<4sI", name, len(data)) + data

    title = b"INFO" + chunk(b"INAM", "Größe\0".encode("cp1252"))
    _, notes, tags = read(wav(before=chunk(b"LIST", title)))
    assert tags["title"] == "Größe" and "Windows-1252" in notes[0]
    _, notes, _ = read(wav(behind=chunk(b"cue ", bytes(4)) + chunk(b"iXML", b"<a/>")))
    assert notes == ["chunks that are left out: cue, iXML"]
    bext = chunk(b"bext", b"scene 12".ljust(602, b"\0"))
    _, notes, tags = read(wav(before=bext))
    assert "scene 12" in tags.values() and not notes
    _, notes, tags = read(wav(before=chunk(b"bext", b"scene 12  ")))
    assert "bext (of 10 bytes, it has 602)" in notes[0] and not tags
    _, notes, _ = read(wav(behind=b"TAG" + bytes(125), riff=836))
    assert notes == ["128 bytes behind the samples are left out"]


def test_part_of_a_sample_at_the_end_is_named():
    found, notes = heard(wav(bytes(801)))
    assert found == 400 and "the last 1 of 801 bytes are no whole sample" in notes[0]
    assert heard(wav(bytes(800))) == (400, [])
    comm = struct.pack(">4sIhIh", b"COMM", 18, 2, 100, 16)
    comm += bytes.fromhex("400cfa00000000000000")  # 16000 Hz
    for odd in (0, 2):
        ssnd = struct.pack(">4sIII", b"SSND", 408 + odd, 0, 0) + bytes(400 + odd)
        body = b"AIFF" + comm + ssnd
        notes = heard(struct.pack(">4sI", b"FORM", len(body)) + body)[1]
        assert bool(odd) == any("no whole sample of 4 bytes" in note for note in notes)


def test_a_speaker_layout_is_told():
    data = io.BytesIO()
    x = np.zeros((100, 6), np.float32)
    soundfile.write(data, x, 48000, format="WAVEX", subtype="PCM_16")
    with open_speech(data) as speech:
        assert speech.info.layout == "5.1"


def test_a_cover_is_named():
    image = io.BytesIO()
    Image.new("RGB", (8, 8)).save(image, "PNG")
    cover = b"\0image/png\0\3\0" + image.getvalue()
    frame = b"APIC" + struct.pack(">IH", len(cover), 0) + cover
    size = bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0))
    data = SOUNDS["xing.mp3"]
    sound = data[data.index(b"\xff\xe3") :]
    found, notes = heard(b"ID3\3\0\0" + size + frame + sound)
    assert found == sounds.SAMPLES and notes == ["the cover image is left out"]


# SD2 has a second file beside it, and RAW says nothing at all.
FORMS = sorted({*soundfile.available_formats()} - {"SD2", "RAW"})


@pytest.mark.parametrize("form", FORMS)
def test_every_format_of_libsndfile_notices_a_cut(form):
    """Or says that nobody can."""
    file, x = io.BytesIO(), np.random.default_rng(0).normal(0, 0.1, 4000)
    try:
        soundfile.write(file, x, 8000, format=form, subtype=None)
    except (soundfile.SoundFileError, ValueError, TypeError):
        pytest.skip(f"libsndfile does not write {form} into memory")
    data = file.getvalue()
    whole, _ = heard(data)
    assert whole in (-1, 4000)
    for part in (0.3, 0.6, 0.95):
        found, said = heard(data[: int(part * len(data))])
        assert found < 0 or said, (found, said)


@pytest.mark.parametrize(
    ("name", "chunk"),
    [
        ("pcm.aiff", b"MARK" + struct.pack(">IH", 2, 0)),
        ("amiga.8svx", b"CHRS" + struct.pack(">IH", 2, 0)),
        ("pcm.caf", b"mark" + struct.pack(">qq", 8, 0)),
        ("mpeg3.wav", b"cue " + struct.pack("<II", 4, 0)),
    ],
)
def test_chunks_behind_the_samples_of_other_containers(name, chunk):
    data = SOUNDS[name]
    whole, _ = heard(data)
    found, notes = heard(
        data + bytes(len(data) % 2 if name != "pcm.caf" else 0) + chunk
    )
    assert found == whole and chunk[:4].decode().strip() in notes[0]
