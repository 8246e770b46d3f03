# SPDX-License-Identifier: Apache-2.0
"""Classical codecs beside ours: real bytes, gray in its own form, versions, search."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib", reason="needs the eval extra")

from signals import photo

from polycodec.codecs.measures.image import psnr
from polycodec.errors import UnknownNameError
from polycodec.eval.image.anchors import ANCHORS, match_rate
from polycodec.eval.image.kind import KIND
from polycodec.eval.machine import described


@pytest.mark.parametrize("name", sorted(ANCHORS))
def test_every_anchor_makes_real_bytes_that_grow_with_quality(name):
    subject = ANCHORS[name]
    if subject.missing():
        pytest.skip(subject.missing())
    picture = photo(3, (96, 128))
    coarse = subject.compress(picture, subject.settings[0])
    fine = subject.compress(picture, subject.settings[-1])
    assert len(coarse.data) < len(fine.data)
    decoded = [subject.decompress(c.data).signal for c in (coarse, fine)]
    assert psnr(picture, decoded[0]) < psnr(picture, decoded[1])
    assert len(subject.versions()) >= 3


@pytest.mark.parametrize("name", sorted(ANCHORS))
def test_gray_pictures_are_coded_as_one_plane(name):
    """Three equal planes are worse than one, in bytes at the same quality."""
    subject = ANCHORS[name]
    if subject.missing():
        pytest.skip(subject.missing())
    told = described(subject.versions())
    if subject.gray is None:
        assert name == "webp" and "gray" not in told
        return
    assert "gray pictures planes 1" in told
    assert ("4:0:0" in told) == name.startswith("avif")
    gray, setting = photo(3, (96, 128)).mean(axis=2), subject.settings[3]
    picture = np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2)
    coded = subject.compress(picture, setting).data
    assert Image.open(io.BytesIO(coded)).mode == "L"
    planes = replace(subject, gray=None).compress(picture, setting).data
    assert len(coded) < 1.01 * len(planes)
    decoded = [subject.decompress(data).signal for data in (coded, planes)]
    assert decoded[0].shape == picture.shape
    better = psnr(picture, decoded[0]) - psnr(picture, decoded[1])
    assert better > -0.1
    if name.startswith("jpeg") and name != "jpeg2000":
        assert len(coded) < len(planes) - 100 and better == 0


def test_versions_name_the_library_that_codes_behind_a_format():
    subject = ANCHORS["avif"]
    if subject.missing():
        pytest.skip(subject.missing())
    found = subject.versions()
    assert found["libavif"] and re.match(r"v?\d+\.\d+", found["aom"])


def test_match_rate_finds_the_nearest_quality():
    picture = photo(4)
    subject = ANCHORS["jpeg"]
    sizes = {q: len(subject.compress(picture, q).data) for q in range(1, 96)}
    setting, coded = match_rate(subject, picture, sizes[62])
    assert abs(len(coded.data) - sizes[62]) <= 0.02 * sizes[62]
    assert abs(setting - 62) <= 2


def test_an_unknown_anchor_names_the_nearest():
    with pytest.raises(UnknownNameError, match="webp"):
        KIND.anchor("wepb")


@pytest.mark.parametrize("name", ANCHORS)
def test_anchors_code_at_both_ends_of_what_is_searched(name):
    anchor = ANCHORS[name]
    if reason := anchor.missing():
        pytest.skip(reason)
    sizes = [len(anchor.compress(photo(1), s).data) for s in anchor.finest]
    assert sizes[0] < sizes[1]
