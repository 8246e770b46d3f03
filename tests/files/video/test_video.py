# SPDX-License-Identifier: Apache-2.0
"""Videos through files: what is kept, parts, rates; by a tiny codec."""

from __future__ import annotations

import io
import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from polycodec.codecs.files import api
from polycodec.codecs.files.container.file import Reader
from polycodec.codecs.files.container.inspect import info, verify
from polycodec.codecs.files.kinds import kind_of
from polycodec.codecs.files.video.read import open_video
from polycodec.errors import (
    InputError,
    UsageError,
)
from tests.clips import packets, read_clip, same, seconds, write_clip

pytest.importorskip("av")
VFR = [0, 400, 900, 3000, 3330, 4000, 4500, 4501, 6000, 9999]


CASES = {
    "mp4, turned, AAC": (
        "a.mp4",
        {"codec": "libx264", "sound": "aac", "rotation": 90},
        ".mp4",
    ),
    "mp4, mirrored, uneven times": (
        "a.mp4",
        {
            "codec": "libx264",
            "rotation": 180,
            "mirrored": True,
            "pts": VFR,
            "time_base": Fraction(1, 12345),
        },
        ".mp4",
    ),
    "mkv, 10 bits, BT.2020, FLAC": (
        "a.mkv",
        {"pixels": "yuv420p10le", "sound": "flac", "colour": (1, 9, 16, 9)},
        ".mkv",
    ),
    "mkv, full range, BT.709": ("a.mkv", {"colour": (2, 1, 1, 1)}, ".mkv"),
    "mkv, RGB": ("a.mkv", {"pixels": "bgr0"}, ".mkv"),
    "mkv, gray, uneven times": (
        "a.mkv",
        {"pixels": "gray", "pts": VFR, "time_base": Fraction(1, 1000)},
        ".mkv",
    ),
    "mkv, odd, 4:2:2 of 12 bits": (
        "a.mkv",
        {"pixels": "yuv422p12le", "size": (37, 53)},
        ".mkv",
    ),
    "webm, Opus": ("a.webm", {"codec": "libvpx-vp9", "sound": "libopus"}, ".webm"),
    "y4m": (
        "a.y4m",
        {"codec": "rawvideo", "container": "yuv4mpegpipe", "size": (37, 53)},
        ".y4m",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_beside_the_pictures_comes_back(codec, tmp_path, case):
    name, options, suffix = CASES[case]
    source, target = write_clip(tmp_path / name, **options), tmp_path / f"out{suffix}"
    assert kind_of(source) == "video"
    result = api.encode(source, tmp_path / "a.plc", codec=codec, quality=80)
    api.decode(tmp_path / "a.plc", target, codec=codec)
    (before, frames), (after, decoded) = read_clip(source), read_clip(target)
    kept = ("width", "height", "colour", "depth", "full_range", "matrix", "primaries")
    kept = (*kept, "transfer", "rotation", "mirrored", "sound")
    assert [vars(before)[k] for k in kept] == [vars(after)[k] for k in kept]
    assert seconds(source) == seconds(target)
    assert len(decoded) == len(frames) == result.frames == 10
    if before.sound:
        assert packets(source) == packets(target)
    assert [p.shape for p in decoded[0].planes] == [p.shape for p in frames[0].planes]
    assert verify(tmp_path / "a.plc")["ok"]


@pytest.mark.parametrize(
    ("form", "note"),
    [
        ("gbrpf32le", "floats"),
        ("xyz12le", "XYZ"),
        ("yuv411p", "interpolated to 4:4:4"),
        ("yuv420p10le", None),
        ("yuyv422", None),
        ("rgb24", None),
    ],
)
def test_what_planes_cannot_hold_is_noted(tmp_path, form, note):
    path = tmp_path / "a.nut"
    write_clip(path, frames=1, pixels=form, codec="rawvideo")
    with open_video(path) as video:
        assert len(list(video.frames())) == 1
        assert [note in said for said in video.notes] == ([True] if note else [])


def test_what_stands_beside_frames_is_noted(tmp_path):
    import av

    light = "master-display=G(1,1)B(1,1)R(1,1)WP(1,1)L(10000,1):max-cll=1000,400"
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        track = out.add_stream("libx265", rate=25)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p10le"
        track.options = {"x265-params": f"log-level=none:hdr10=1:{light}"}
        shade = av.VideoFrame(64, 48, "yuv420p10le")
        shade.pts = 0
        out.mux(track.encode(shade))
        out.mux(track.encode())
    with open_video(tmp_path / "a.mp4") as video:
        list(video.frames())
        assert video.notes == ["what its HDR metadata says of light is left out"]


def test_planes_that_were_not_coded_come_back():
    from polycodec.codecs.files.video.chunks import geometry_of
    from polycodec.codecs.files.video.colour import from_rgb, to_rgb
    from polycodec.codecs.files.video.data import VideoInfo

    still = torch.from_numpy(np.stack([photo_of(k) for k in range(2)]))
    for depth, matrix, full, siting, colour in (
        (8, 6, False, "unknown", "yuv420"),
        (10, 9, False, "left", "yuv420"),
        (8, 1, True, "center", "yuv420"),
        (12, 2, False, "topleft", "yuv422"),
        (16, 1, True, "unknown", "yuv444"),
        (10, 0, True, "unknown", "rgb"),
    ):
        about = VideoInfo(*(53, 37, colour, depth, full), matrix=matrix, siting=siting)
        geometry = geometry_of(about, 2, 2)
        planes = from_rgb(still, geometry)
        again = from_rgb(to_rgb(planes, geometry), geometry)
        for a, b in zip(planes, again, strict=True):
            for p, q in zip(a, b, strict=True):
                difference = np.abs(p.astype(int) - q.astype(int))
                assert difference.mean() < 0.01 * (1 << depth) / 256 + 0.05


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".webm", ".y4m"])
def test_every_size_and_depth_is_written_whole(suffix):
    from polycodec.codecs.files.video.chunks import geometry_of
    from polycodec.codecs.files.video.data import VideoInfo
    from polycodec.codecs.files.video.read import open_video
    from polycodec.codecs.files.video.times import Times
    from polycodec.codecs.files.video.write import VideoWriter

    cases = [(47, 33, 8), (1, 1, 8), (2, 2, 8), (3, 1, 8), (1, 20, 8), (64, 33, 10)]
    for colour in ("yuv420", "yuv422", "yuv444", "rgb", "gray"):
        for width, height, depth in cases:
            about = VideoInfo(width, height, colour, depth, colour == "rgb")
            target, times = io.BytesIO(), Times.even_of(2, Fraction(25))
            with VideoWriter(target, suffix, geometry_of(about, 2, 2), times) as out:
                out.write(torch.rand(2, 3, height, width))
            with open_video(io.BytesIO(target.getvalue())) as video:
                sizes = [frame.planes[0].shape for frame in video.frames()]
            assert sizes == 2 * [(height, width)]
            kept = video.info.depth == depth
            assert kept or f"holds {video.info.depth} bits of {depth}" in str(out.notes)


def photo_of(k):
    from tests.signals import photo

    smooth = Image.fromarray(photo(k, (10, 14))).resize((53, 37), Image.BICUBIC)
    x = 0.2 + 0.6 * np.asarray(smooth, np.float32).transpose(2, 0, 1) / 255
    return np.ascontiguousarray(x)


def test_a_part_reads_what_it_needs_and_is_equal(codec, coded, tmp_path):
    folder, data, (_, whole) = coded
    result = api.decode(
        folder / "clip.plc", tmp_path / "p.mkv", codec=codec, frames=(5, 7)
    )
    assert same(read_clip(tmp_path / "p.mkv")[1], whole[5:7])
    sizes = info(folder / "clip.plc")["chunk_bytes"]
    assert result.bytes == len(data) - sum(sizes) + sizes[1]
    assert any("sound" in note for note in result.notes)
    with pytest.raises(UsageError, match=r"5:11 .* inside 0:10"):
        api.decode(folder / "clip.plc", tmp_path / "q.mkv", codec=codec, frames=(5, 11))


def test_frames_as_images_and_back(codec, coded, tmp_path):
    folder, _, _ = coded
    (tmp_path / "f").mkdir()
    out = tmp_path / "f" / "%02d.png"
    api.decode(folder / "clip.plc", out, codec=codec, frames=(8, 10))
    assert sorted(p.name for p in (tmp_path / "f").iterdir()) == ["08.png", "09.png"]
    with pytest.raises(InputError, match="exists already"):
        api.decode(folder / "clip.plc", out, codec=codec, frames=(8, 9))
    Image.new("RGB", (48, 32)).save(tmp_path / "f" / "10.png")
    result = api.encode(tmp_path / "f", tmp_path / "f.plc", codec=codec, fps=12.5)
    geometry = info(tmp_path / "f.plc")["geometry"]
    assert (result.frames, geometry["colour"]) == (3, "rgb")
    assert (geometry["rate_num"], geometry["rate_den"]) == (25, 2)
    api.decode(tmp_path / "f.plc", tmp_path / "f.mkv", codec=codec)
    assert read_clip(tmp_path / "f.mkv")[0].colour == "rgb"
    Image.new("RGB", (20, 32)).save(tmp_path / "f" / "100.png")
    with pytest.raises(
        InputError, match=r"change .* at 100.png, frame 3; the 3 before"
    ):
        api.encode(tmp_path / "f", tmp_path / "g.plc", codec=codec)


def test_a_size_is_met(codec, tmp_path):
    source = write_clip(tmp_path / "a.mkv", sound="flac", size=(64, 96))
    least = api.encode(source, tmp_path / "0.plc", codec=codec, quality=0).bytes
    most = api.encode(source, tmp_path / "1.plc", codec=codec, quality=100).bytes
    for options, limit in (
        ({"target_size": (least + most) // 2}, (least + most) // 2),
        ({"target_kbps": 8e-3 * most / (10 / 24)}, most),
    ):
        result = api.encode(source, tmp_path / "t.plc", codec=codec, **options)
        assert least < result.bytes <= limit
        (tmp_path / "t.plc").unlink()
    with pytest.raises(UsageError, match="quality 0 needs"):
        api.encode(source, tmp_path / "t.plc", codec=codec, target_size=least - 9)
    assert not (tmp_path / "t.plc").exists()


def test_trials_see_frames_of_all_the_clip():
    from polycodec.codecs.files.video.data import Planes
    from polycodec.codecs.files.video.rate import KEPT, Sample, search

    sample = Sample()
    for k in range(1000):
        sample.add(Planes([], k))
    kept = [frame.pts for frame in sample.frames]
    assert KEPT // 2 <= len(kept) <= KEPT and not sample.whole
    assert kept[0] == 0 and kept[-1] > 850 and len(set(np.diff(kept))) == 1
    sizes = []

    def code(quality):
        sizes.append(1.3 * 1000 * 1.05**quality)  # trials say too little
        return int(sizes[-1])

    quality = search(lambda q: 1000 * 1.05**q, code, 20000, "it", exact=False)
    assert sizes[-1] <= 20000 and sizes[-1] >= 0.9 * 20000
    assert 0 < quality < 100


def test_sound_is_left_out_or_coded_or_taken_alone(codec, tmp_path):
    source = write_clip(tmp_path / "a.mkv", sound="flac", frames=24)
    result = api.encode(source, tmp_path / "n.plc", codec=codec, audio="none")
    assert any("left out (flac)" in note for note in result.notes)
    assert info(tmp_path / "n.plc")["geometry"]["sound"] == 0
    result = api.encode(source, tmp_path / "s.plc", codec=codec, audio="speech")
    assert any("speech/default" in note for note in result.notes)
    api.decode(tmp_path / "s.plc", tmp_path / "s.mkv", codec=codec)
    assert read_clip(tmp_path / "s.mkv")[0].sound == ("flac",)
    api.encode(source, tmp_path / "alone.plc", as_="sound")
    assert info(tmp_path / "alone.plc")["kind"] == "speech"


def test_a_pipe_and_a_stream(codec, tmp_path):
    y4m = {"codec": "rawvideo", "container": "yuv4mpegpipe"}
    raw = write_clip(tmp_path / "a.y4m", **y4m).read_bytes()

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    out = io.BytesIO()
    api.encode(Pipe(raw), out, codec=codec)
    back = Pipe()
    api.decode(out.getvalue(), back, codec=codec, format="y4m")
    assert back.getvalue()[:9] == b"YUV4MPEG2"
    assert len(back.getvalue()) >= len(raw) - 100


def test_bytes_do_not_depend_on_threads(codec, coded, tmp_path):
    folder, data, (_, whole) = coded
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        api.encode(folder / "clip.mkv", tmp_path / "a.plc", codec=codec, gop=4)
        api.decode(data, tmp_path / "a.mkv", codec=codec)
    finally:
        torch.set_num_threads(threads)
    assert (tmp_path / "a.plc").read_bytes() == data
    for a, b in zip(read_clip(tmp_path / "a.mkv")[1], whole, strict=True):
        for p, q in zip(a.planes, b.planes, strict=True):
            assert np.abs(p.astype(int) - q.astype(int)).max() <= 1


def test_the_header_says_what_the_json_does(coded):
    folder, data, _ = coded
    reader = Reader(io.BytesIO(data))
    assert reader.header.geometry.groups == 3 and reader.header.geometry.sound == 1
    values = info(folder / "clip.plc")
    assert json.dumps(values) and values["kbps"] > 0 and values["bpp"] > 0


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_mirrored_clips_stay_turned_as_they_were(codec, tmp_path, rotation):
    import av

    def matrix(path):
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
            return [bytes(d) for d in frame.side_data if "MATRIX" in str(d.type)]

    clip = {"codec": "libx264", "frames": 2, "rotation": rotation, "mirrored": True}
    write_clip(tmp_path / "a.mp4", **clip)
    api.encode(tmp_path / "a.mp4", tmp_path / "a.plc", codec=codec)
    api.decode(tmp_path / "a.plc", tmp_path / "b.mp4", codec=codec)
    assert matrix(tmp_path / "a.mp4") == matrix(tmp_path / "b.mp4") != []


def test_frames_before_an_edit_list_are_not_missed(tmp_path):
    import av

    write_clip(tmp_path / "a.mp4", codec="libx264", frames=12)
    options = {"use_editlist": "1", "avoid_negative_ts": "disabled"}
    with (
        av.open(str(tmp_path / "a.mp4")) as old,
        av.open(str(tmp_path / "b.mp4"), "w", options=options) as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                start = round(5 / (24 * packet.time_base))
                packet.pts, packet.dts = packet.pts - start, packet.dts - start
                packet.stream = stream
                new.mux(packet)
    info, frames = read_clip(tmp_path / "b.mp4")
    assert info.frames == len(frames) == 7


def test_y4m_of_uneven_times_has_a_rate_of_frames(codec, tmp_path):
    base = Fraction(1, 90000)
    write_clip(tmp_path / "a.mkv", frames=3, pts=[9000, 12600, 18000], time_base=base)
    api.encode(tmp_path / "a.mkv", tmp_path / "a.plc", codec=codec)
    api.decode(tmp_path / "a.plc", tmp_path / "a.y4m", codec=codec)
    assert read_clip(tmp_path / "a.y4m")[0].rate < 100
