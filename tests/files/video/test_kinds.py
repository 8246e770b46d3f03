# SPDX-License-Identifier: Apache-2.0
"""Containers hold video, sound or both: which, from their bytes, under any name."""

from __future__ import annotations

import numpy as np
import pytest

from polycodec.codecs.files.kinds import KINDS, kind_of
from tests.clips import write_clip

av = pytest.importorskip("av")


def write_sound(path, codec, container):
    with av.open(str(path), "w", format=container) as out:
        track = out.add_stream(codec, rate=48000, layout="mono")
        form = track.codec_context.codec.audio_formats[0].name
        resampler = av.AudioResampler(form, "mono", 48000)
        for first in range(0, 9600, 960):
            silence = np.zeros((1, 960), np.int16)
            frame = av.AudioFrame.from_ndarray(silence, "s16", "mono")
            frame.sample_rate, frame.pts = 48000, first
            for piece in resampler.resample(frame):
                out.mux(track.encode(piece))
        out.mux(track.encode())


@pytest.mark.parametrize(
    ("container", "picture", "sound"),
    [
        ("mp4", "libx264", "aac"),
        ("mov", "mpeg4", "aac"),
        ("matroska", "libx264", "aac"),
        ("webm", "libvpx-vp9", "libopus"),
        ("avi", "mpeg4", "pcm_s16le"),
        ("mpegts", "libx264", "aac"),
        ("flv", "libx264", "aac"),
        ("asf", "mpeg4", "aac"),
    ],
)
def test_tracks_decide_not_names(tmp_path, container, picture, sound):
    path = tmp_path / "file"  # without a suffix
    write_clip(path, codec=picture, container=container, sound=sound, frames=4)
    assert kind_of(path) == "video"
    write_clip(path, codec=picture, container=container, frames=4)
    assert kind_of(path) == "video"
    with path.open("rb") as file:
        assert kind_of(file) == "video" and file.tell() == 0
    write_sound(path, sound, container)
    if container not in ("avi", "mpegts"):  # no sound alone is told of these
        assert kind_of(path) == "speech"


def test_a_name_decides_where_bytes_do_not(tmp_path):
    write_clip(tmp_path / "a.mp4", codec="libx264", sound="aac")
    whole = (tmp_path / "a.mp4").read_bytes()
    cut = whole[: whole.rindex(b"moov") - 4]  # its table of tracks is gone
    for name, kind in (("b.mp4", "video"), ("b.m4a", "speech"), ("b", "speech")):
        (tmp_path / name).write_bytes(cut)
        assert kind_of(tmp_path / name) == kind
    for suffix in KINDS["video"].also:
        (tmp_path / f"raw{suffix}").write_bytes(b"\0\0\0\1\x67")
        assert kind_of(tmp_path / f"raw{suffix}") == "video"
    assert kind_of(tmp_path) == "video"  # a folder of frames
