# SPDX-License-Identifier: Apache-2.0
"""What a clip says beside its samples is understood: levels, alpha, turns, gaps."""

from __future__ import annotations

from fractions import Fraction as Rate

import numpy as np
import pytest
import torch

from polycodec.codecs.files import api
from polycodec.codecs.files.speech.read import open_speech
from polycodec.codecs.files.video.av import _promised
from polycodec.codecs.files.video.chunks import geometry_of
from polycodec.codecs.files.video.colour import to_rgb
from polycodec.codecs.files.video.write import numbered_frames
from tests.clips import read_clip, seconds, write_clip

av = pytest.importorskip("av")


@pytest.mark.parametrize(
    ("said", "levels"), [(None, (0, 255)), ((1, 2, 2, 2), (16, 235))]
)
def test_gray_that_says_no_range_has_all_levels(tmp_path, said, levels):
    write_clip(tmp_path / "a.mkv", frames=1, pixels="gray", colour=said)
    info, _ = read_clip(tmp_path / "a.mkv")
    row = np.arange(256, dtype=np.uint8)[None]
    [x] = to_rgb([[row]], geometry_of(info, 1, 1))
    black, white = (x == 0).all(0), (x == 1).all(0)
    assert (int(black.sum()) - 1, 256 - int(white.sum())) == levels


def test_alpha_of_webm_is_noted(tmp_path):
    from polycodec.codecs.files.video.read import open_video

    for alpha in ("1", "0"):
        path = tmp_path / f"{alpha}.webm"
        with av.open(str(path), "w") as out:
            track = out.add_stream("libvpx-vp9", rate=25)
            track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
            track.metadata["alpha_mode"] = alpha
            out.mux(track.encode(av.VideoFrame(64, 48, "yuv420p")))
            out.mux(track.encode())
        with open_video(path) as video:
            assert video.notes == ["transparency is left out"] * int(alpha)
            assert "alpha_mode" not in video.info.tags


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_numbered_frames_lie_as_the_matrix_says(tmp_path, rotation, mirrored):
    """Of FFmpeg's display matrix: (p, q) is shown at (a p + c q, b p + d q)."""
    from PIL import Image

    turn = {"rotation": rotation, "mirrored": mirrored}
    write_clip(tmp_path / "a.mp4", codec="libx264", frames=1, **turn)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
        said = [bytes(d) for d in frame.side_data if "MATRIX" in str(d.type)]
    told = np.frombuffer(said[0], np.int32) >> 16 if said else np.eye(3).ravel()
    (a, b, _, c, d), (h, w) = told[:5], (32, 48)
    q, p = np.mgrid[:h, :w]
    across, down = a * p + c * q, b * p + d * q
    across, down = (one - one.min() for one in (across, down))
    x = torch.randint(256, (1, 3, h, w), dtype=torch.uint8)
    shown = np.zeros((int(down.max()) + 1, int(across.max()) + 1, 3), np.uint8)
    shown[down.astype(int), across.astype(int)] = x[0].movedim(0, -1).numpy()
    geometry = geometry_of(read_clip(tmp_path / "a.mp4")[0], 1, 1)
    pattern = str(tmp_path / "%d.png")
    with numbered_frames(pattern, geometry, 0, force=False) as write:
        write(x / 255)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "0.png")), shown)


def test_silence_stands_where_sound_is_missing(tmp_path):
    with av.open(str(tmp_path / "a.mka"), "w", format="matroska") as out:
        track = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        for begin in (1600, 2400, 8000):  # 0.2 to 0.4 s, and 1 to 1.1 s
            part = np.full((1, 800), 1000, np.int16)
            frame = av.AudioFrame.from_ndarray(part, "s16", "mono")
            frame.sample_rate, frame.pts = 8000, begin
            out.mux(track.encode(frame))
    expected = np.zeros(8800)
    expected[1600:3200] = expected[8000:] = 1000 / 32768
    for begin, whole in ((0.0, expected), (0.1, expected[800:])):
        with open_speech(tmp_path / "a.mka", begin=begin) as speech:
            x = np.concatenate(list(speech.blocks()))
            assert np.array_equal(x[:, 0], whole.astype(np.float32))
            assert speech.notes == ["packets are missing at 1 places"]
    with open_speech(tmp_path / "a.mka") as speech:  # its length has the gap in it
        x = np.concatenate(list(speech.blocks()))
        assert len(x) == 2400 and speech.lost


def test_without_an_index_the_count_of_frames_is_the_container_s():
    class Old:
        """A track of PyAV before 17."""

        frames = 12

    assert _promised(Old()) == 12


@pytest.mark.parametrize(("early", "late"), [("video", 0.2), ("sound", 0.4)])
@pytest.mark.parametrize("audio", ["copy", "speech"])
def test_an_absolute_clock_begins_at_zero_and_in_step(
    codec, tmp_path, early, late, audio
):
    """A broadcast's clock; frames and clicks each 0.2 s from where they begin."""
    clock, rate = 50000, 48000
    begin = {"video": clock, "sound": clock}
    begin["sound" if early == "video" else "video"] += late
    with av.open(str(tmp_path / "a.ts"), "w", options={"muxdelay": "0"}) as out:
        track = out.add_stream("mpeg2video", rate=25)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        track.codec_context.max_b_frames = 0
        sound = out.add_stream("mp2", rate=rate, layout="mono")
        wave = np.zeros((1, rate), np.int16)
        wave[0, rate // 5 : rate // 5 + 96] = 20000
        for k in range(25):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = round(begin["video"] * 25) + k, 1 / Rate(25)
            out.mux(track.encode(frame))
        out.mux(track.encode())
        for k in range(0, rate - 1152, 1152):
            part = av.AudioFrame.from_ndarray(wave[:, k : k + 1152], "s16", "mono")
            part.sample_rate, part.time_base = rate, 1 / Rate(rate)
            part.pts = round(begin["sound"] * rate) + k
            out.mux(sound.encode(part))
        out.mux(sound.encode())
    api.encode(tmp_path / "a.ts", tmp_path / "a.plc", codec=codec, audio=audio)
    api.decode(tmp_path / "a.plc", tmp_path / "a.mkv", codec=codec)
    before, after = (
        first_and_click(tmp_path / "a.ts"),
        first_and_click(tmp_path / "a.mkv"),
    )
    assert before[0] > clock - 1 and min(after) >= 0 and after[0] < 0.5
    assert after[1] - after[0] == pytest.approx(before[1] - before[0], abs=0.005)


def first_and_click(path):
    """Seconds of the first frame, and of what is first heard."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        shown = float(frame.pts * frame.time_base)
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            x = np.abs(frame.to_ndarray().astype(np.float64)[0])
            loud = x > 0.1 * (1 if frame.format.name.startswith("flt") else 32768)
            if loud.any():
                at = int(loud.argmax()) / frame.sample_rate
                return shown, float(frame.pts * frame.time_base) + at
    raise AssertionError("no click")


@pytest.mark.parametrize(
    ("luma", "blue", "share"),
    [
        ((16, 235), 128, 0),
        ((14, 237), 128, 0),
        ((5, 128), 128, 50),
        ((128, 90), 240, 33),
    ],
)
def test_what_rgb_cannot_hold_is_noted(codec, tmp_path, luma, blue, share):
    frame = av.VideoFrame(64, 48, "yuv420p")
    for plane, levels in zip(frame.planes, (luma, (blue,), (128,)), strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows[:] = levels[0]
        rows[plane.height // 2 :] = levels[-1]
        plane.update(rows)
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        track = out.add_stream("ffv1", rate=25)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        out.mux(track.encode(frame))
        out.mux(track.encode())
    notes = api.encode(tmp_path / "a.mkv", tmp_path / "a.plc", codec=codec).notes
    assert [note[: note.find(" of its")] for note in notes] == [f"{share}%"] * (
        share > 0
    )


@pytest.mark.parametrize(
    ("sound", "suffix", "late"),
    [("aac", ".mkv", 21), ("aac", ".mp4", 0), ("libopus", ".mkv", 0)],
)
def test_frames_that_come_later_for_their_sound_are_noted(
    codec, tmp_path, sound, suffix, late
):
    write_clip(tmp_path / "a.mp4", codec="libx264", sound=sound)
    api.encode(tmp_path / "a.mp4", tmp_path / "a.plc", codec=codec)
    done = api.decode(tmp_path / "a.plc", tmp_path / f"b{suffix}", codec=codec)
    assert [f"{late} ms before 0" in note for note in done.notes] == [True] * (late > 0)
    assert round(1000 * seconds(tmp_path / f"b{suffix}")[0]) == late
