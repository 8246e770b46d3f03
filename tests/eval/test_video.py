# SPDX-License-Identifier: Apache-2.0
"""Evaluation of clips: what is measured, by which rules, beside which anchors."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from polycodec.codecs.measures import image
from polycodec.errors import InputError, UnknownNameError, UsageError
from polycodec.eval.options import EvalOptions
from polycodec.eval.run import evaluate
from polycodec.eval.video import clip, datasets, kind, measures
from polycodec.eval.video.anchors import ANCHORS
from polycodec.eval.video.datasets import VIDEOS
from polycodec.eval.video.published import read_curves
from polycodec.eval.video.subjects import VideoCodec
from tests.clips import read_clip, tiny_codec, write_clip

pytest.importorskip("av")


def test_a_clip_is_its_planes_cut_to_even_sizes(tmp_path):
    write_clip(tmp_path / "odd.mkv", size=(37, 53), frames=3)
    signal = clip.read(tmp_path / "odd.mkv")
    assert signal.shape == (3, 54, 52) and clip.size_of(signal) == (3, 36, 52)
    _, frames = read_clip(tmp_path / "odd.mkv")
    y, u, v = clip.planes_of(signal[2])
    for plane, own in zip((y, u, v), frames[2].planes, strict=True):
        assert np.array_equal(plane, own[: plane.shape[0], : plane.shape[1]])
    (tmp_path / "a.y4m").write_bytes(clip.y4m(signal))
    assert np.array_equal(clip.read(tmp_path / "a.y4m"), signal)


def test_frames_behind_the_wanted_ones_are_not_read(tmp_path):
    signal = clip.read(write_clip(tmp_path / "a.mkv", frames=3))
    (tmp_path / "cut.y4m").write_bytes(clip.y4m(signal)[:-1])
    (item,) = VIDEOS.open(tmp_path / "cut.y4m")[1]
    taken = kind.KIND.taken(item, EvalOptions(frames=2))
    assert np.array_equal(taken, signal[:2])
    with pytest.raises(InputError, match="after 2 good frames"):
        kind.KIND.taken(item, EvalOptions())


def test_psnr_of_planes_counts_luma_six_times(tmp_path):
    write_clip(tmp_path / "a.mkv", frames=2)
    signal = clip.read(tmp_path / "a.mkv")
    other = signal.copy()
    other[:, :32] += 1  # luma alone, by one: 48.13 dB; chroma is exact: 100
    expected = (6 * 10 * np.log10(255**2) + 2 * image.PSNR_EXACT) / 8
    assert measures.psnr_yuv(signal, other) == pytest.approx(expected)
    assert measures.psnr_rgb(signal, other) < 49
    with pytest.raises(InputError, match="does not match"):
        measures.MEASURES.score(signal, other[:1])


@pytest.mark.parametrize("name", ["x264", "x264-intra", "x265", "av1"])
def test_anchors_spend_bits_on_quality(tmp_path, name):
    anchor = ANCHORS[name]
    if reason := anchor.missing():
        pytest.skip(reason)
    signal = clip.read(write_clip(tmp_path / "a.mkv", frames=3, size=(64, 96)))
    found = []
    for crf in (45, 20):
        coded = anchor.compress(signal, crf)
        decoded = anchor.decompress(coded.data).signal
        # Notes of x264 and x265, their version and options, make no rate.
        assert (len(coded.data) - coded.size > 500) == (name != "av1")
        found.append((coded.size, measures.psnr_rgb(signal, decoded)))
    assert found[0][0] < found[1][0] and found[0][1] + 1 < found[1][1]
    assert anchor.versions()["options"] == dict(anchor.options)


FILM = r'class="film".*?data:image/webp;base64,([^"]+)"'


class Tiny(VideoCodec):
    """Ours with random weights, which are no file."""

    def _codec(self):
        self._loaded = self._loaded or tiny_codec()
        return self._loaded


def test_a_run_on_clips(tmp_path):
    pytest.importorskip("bjontegaard")
    folder = tmp_path / "clips"
    folder.mkdir()
    write_clip(folder / "a.mkv", frames=3, size=(64, 96))
    own = Tiny("image/test", device="cpu", settings=(20, 80))
    result = evaluate(
        folder,
        out=tmp_path / "out",
        codecs=[own],
        anchors=["x264"],
        anchor_settings={"x264": (40, 20)},
        frames=2,
        quiet=True,
        measures=["psnr", "psnr_yuv"],
    )
    assert VIDEOS.count(folder) == 1 and result.run.kind.name == "video"
    assert {row.amount for row in result.rows} == {2 * 64 * 96}
    for row in result.rows:
        assert row.scores["psnr"] != row.scores["psnr_yuv"]
        assert row.rate == pytest.approx(8 * row.bytes / row.amount)
    content = json.loads((tmp_path / "out" / "run.json").read_text())
    assert set(content["comparisons"]) == {"psnr", "psnr_yuv"}  # what was taken
    page = (tmp_path / "out" / "report.html").read_text()
    assert "PSNR of YUV" in page
    film = Image.open(io.BytesIO(base64.b64decode(re.search(FILM, page)[1])))
    assert (film.n_frames, film.size) == (2, (3 * 96, 64))
    with pytest.raises(UsageError, match="reference"):
        evaluate(folder, out=tmp_path / "no", anchors=["x264"], reference="vtm")
    with pytest.raises(InputError, match="no clips of UVG"):
        evaluate("uvg", out=tmp_path / "no", anchors=["x264"], data=tmp_path / "out")


def test_uvg_is_its_seven_clips(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "UVG_SIZE", (96, 64))
    place = tmp_path / "uvg"
    place.mkdir()
    first = write_clip(place / "Beauty_1080p.mkv", frames=1, size=(64, 96)).read_bytes()
    write_clip(place / "other.mkv", frames=1)
    with pytest.raises(InputError, match="0 clips named 'bosphorus"):
        VIDEOS.open("uvg", data=tmp_path)
    rest = (
        "Bosphorus",
        "HoneyBee",
        "Jockey",
        "ReadySteadyGo",
        "ShakeNDry",
        "YachtRide",
    )
    for name in rest:
        (place / f"{name}_1080p.mkv").write_bytes(first)
    name, items = VIDEOS.open("uvg", data=tmp_path)
    assert name == "uvg"
    assert [item.name.split("_")[0] for item in items] == ["Beauty", *rest]
    write_clip(place / "Jockey_1080p.mkv", frames=1, size=(48, 96))
    with pytest.raises(InputError, match=r"Jockey.* is 96x48 with 600 frames"):
        VIDEOS.open("uvg", data=tmp_path)


def test_published_curves_are_of_rgb_or_of_planes():
    of = {"id": "a", "name": "A", "metric": "PSNR on RGB"}
    points = [{"bpp": 0.2, "psnr": 36.0, "msssim": 0.99}, {"bpp": 0.1, "psnr": 34.0}]
    planes = {**of, "id": "b", "metric": "PSNR YUV420 weighted (6Y+U+V)/8"}
    content = {"methods": [{**of, "points": points}, {**planes, "points": points}]}
    rgb, yuv = read_curves(content)
    assert (rgb.kind, rgb.rates, rgb.values("psnr")[1]) == (
        "published",
        [0.1, 0.2],
        [34.0, 36.0],
    )
    assert rgb.values("ms_ssim_db") == ([0.2], [pytest.approx(20.0)])
    assert yuv.values("psnr")[0] == [] and yuv.values("psnr_yuv")[1] == [34.0, 36.0]
    assert yuv.values("ms_ssim_db")[0] == []
    with pytest.raises(UnknownNameError):
        read_curves(content, ids=["c"])
