# SPDX-License-Identifier: Apache-2.0
"""Videos that are damaged, cut or none, and disks that are full; by a tiny codec."""

from __future__ import annotations

import errno
import io
from fractions import Fraction

import numpy as np
import pytest

from polycodec.codecs.files import api
from polycodec.codecs.files.container.inspect import info
from polycodec.codecs.files.kinds import kind_of
from polycodec.errors import (
    BitstreamError,
    ChecksumError,
    InputError,
    TruncatedError,
)
from tests.clips import packets, read_clip, same, write_clip

pytest.importorskip("av")


def test_a_damaged_group_costs_one_group(codec, coded, tmp_path):
    folder, data, (_, whole) = coded
    sizes = info(folder / "clip.plc")["chunk_bytes"]
    bad = bytearray(data)
    bad[len(data) - sum(sizes) + sizes[0] + 9] ^= 1
    with pytest.raises(ChecksumError, match="had: 0:4, 8:10; missing: 4:8"):
        api.decode(bytes(bad), tmp_path / "a.mkv", codec=codec)
    assert not (tmp_path / "a.mkv").exists()
    result = api.decode(bytes(bad), tmp_path / "a.mkv", codec=codec, salvage=True)
    assert result.damaged == [(4, 8)]
    expected = [*whole[:4], *[whole[3]] * 4, *whole[8:]]
    assert same(read_clip(tmp_path / "a.mkv")[1], expected)
    assert packets(tmp_path / "a.mkv") == packets(folder / "clip.mkv")


def test_a_cut_file_says_which_frames_are_there(codec, coded, tmp_path):
    folder, data, (_, whole) = coded
    sizes = info(folder / "clip.plc")["chunk_bytes"]
    cut = data[: len(data) - sum(sizes) + sizes[0] + sizes[1] // 2]
    with pytest.raises(TruncatedError, match="had: 0:4; missing: 4:10"):
        api.decode(cut, tmp_path / "a.mkv", codec=codec)
    api.decode(cut, tmp_path / "a.mkv", codec=codec, frames=(1, 4))
    assert same(read_clip(tmp_path / "a.mkv")[1], whole[1:4])
    result = api.decode(cut, tmp_path / "b.mkv", codec=codec, salvage=True)
    assert result.damaged == [(4, 10)] and len(read_clip(tmp_path / "b.mkv")[1]) == 10


def test_inputs_that_are_no_whole_videos(codec, tmp_path):
    import av

    def refused(data, match, name="x.mkv"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=match):
            api.encode(tmp_path / name, tmp_path / "x.plc", codec=codec)
        assert not (tmp_path / "x.plc").exists()

    y4m = {"codec": "rawvideo", "container": "yuv4mpegpipe"}
    raw = write_clip(tmp_path / "a.y4m", **y4m).read_bytes()
    head = raw.index(b"\n") + 1
    refused(raw[:head], "no frames", "x.y4m")
    refused(raw[:-700], "after 9 good frames", "x.y4m")
    refused(b"", "x.mp4; it is empty", "x.mp4")
    mkv = write_clip(tmp_path / "a.mkv").read_bytes()
    refused(mkv[: len(mkv) // 2], "it is cut")
    mp4 = write_clip(tmp_path / "a.mp4", codec="libx264").read_bytes()
    refused(mp4[:-200], "it is cut|is damaged", "x.mp4")
    for codec_of, options in (("ffv1", {"level": "3", "slicecrc": "1"}), ("mpeg4", {})):
        path = write_clip(tmp_path / "b.mkv", codec=codec_of, options=options)
        broken = bytearray(path.read_bytes())
        with av.open(str(path)) as container:
            packets = [p for p in container.demux() if p.size]
        at, end = packets[6].pos, packets[6].pos + packets[6].size
        broken[(at + end) // 2 : end - 4] = b"\xff" * (end - 4 - (at + end) // 2)
        refused(bytes(broken), "after [56] good frames")
    broken = bytearray(mkv)  # FFmpeg shows what stood there before, and no error
    broken[mkv.rindex(b"\xa3") + 80] ^= 1
    for _ in range(2):
        refused(bytes(broken), "after 9 good frames .a frame is damaged")


def test_frames_that_change_their_size(codec, tmp_path):
    raw = {"codec": "libx264", "container": "h264"}
    first = write_clip(tmp_path / "a.h264", **raw)
    second = write_clip(tmp_path / "b.h264", size=(64, 96), **raw)
    both = tmp_path / "ab.h264"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    change = "48x32 yuv420p to 96x64 yuv420p at frame 10; the 10 before it are good"
    with pytest.raises(InputError, match=change):
        api.encode(both, tmp_path / "x.plc", codec=codec, as_="video")
    assert not (tmp_path / "x.plc").exists()


class FullDisk(io.BytesIO):
    """A disk with room for some bytes."""

    room = 700

    def write(self, data):
        if self.tell() + len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("format", ["mkv", "mp4", "y4m"])
def test_a_full_disk(codec, coded, format):
    _, data, _ = coded
    with pytest.raises(InputError, match="No space left on device"):
        api.decode(data, FullDisk(), codec=codec, format=format)
    with pytest.raises(InputError, match="No space left on device"):
        api.encode(coded[0] / "clip.mkv", FullDisk(), codec=codec)


def test_sound_alone_is_no_video(codec, tmp_path):
    import av

    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        track = out.add_stream("flac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), "s16", "mono")
        frame.sample_rate, frame.pts = 16000, 0
        out.mux([*track.encode(frame), *track.encode()])
    assert kind_of(tmp_path / "a.mkv") == "speech"
    with pytest.raises(InputError, match="no video stream"):
        api.encode(tmp_path / "a.mkv", tmp_path / "a.plc", codec=codec, as_="video")


def test_frames_before_a_bad_packet_are_counted(codec, tmp_path):
    """Its decoder holds frames back, for those that it shows later."""
    for name in ("a.ts", "b.ts"):
        write_clip(tmp_path / name, codec="libx264", frames=6, container="mpegts")
    whole = (tmp_path / "a.ts").read_bytes()
    (tmp_path / "c.ts").write_bytes(whole + whole)  # counters that do not go on
    with pytest.raises(InputError, match=r"damaged after [3-6] good frames \(a packet"):
        api.encode(tmp_path / "c.ts", codec=codec)


def test_times_that_cannot_be():
    from polycodec.codecs.files.video.times import Times

    times = Times.of([5, 7, 100], 9, Fraction(1, 90000), Fraction(25))
    again = Times.read(times.record, 3, times.rate)
    assert (list(again.pts), again.last) == ([5, 7, 100], 9)
    assert list(again.part(1, 3).pts) == [0, 93]
    negative = Times.of([-5, 7], 0, Fraction(1, 1000), Fraction(25))
    assert list(Times.read(negative.record, 2, Fraction(25)).pts) == [-5, 7]
    ms = [int(k * 1000 * 1001 / 24000 + 0.5) for k in range(50)]
    assert Times.of(ms, 41, Fraction(1, 1000), Fraction(24000, 1001)).even
    for lost in ([0, 40, 40, 90], [0, 40, None, 120]):
        found = Times.of(lost, 0, Fraction(1, 1000), Fraction(25))
        assert found.lost and found.even and len(found.pts) == 4
    assert not times.lost and not Times.of([None, None], 0, *2 * [Fraction(25)]).lost
    for bad in (b"", times.record[:-1], times.record + b"\0", bytes(5)):
        with pytest.raises(BitstreamError):
            Times.read(bad, 3, Fraction(25))


@pytest.mark.parametrize("seed", range(4))
def test_changed_files_are_named_or_harmless(codec, coded, tmp_path, seed):
    _, data, (_, whole) = coded
    rng = np.random.default_rng(seed)
    for _ in range(12):
        bad = bytearray(data)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            bad[at] ^= 1 << rng.integers(8)
        try:
            api.decode(bytes(bad), tmp_path / "a.y4m", codec=codec, force=True)
        except (BitstreamError, InputError):
            continue
        except Exception as error:  # of other models, by a changed digest
            assert type(error).__name__ in ("ModelError", "DigestMismatchError")
            continue
        assert same(read_clip(tmp_path / "a.y4m")[1], whole)  # sound is not read
