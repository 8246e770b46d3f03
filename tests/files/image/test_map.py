# SPDX-License-Identifier: Apache-2.0
"""Maps of detail: drawn by masks, shown as numbers and as pictures."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from granular_codec import fine_of, picture, saved_in
from PIL import Image

import polycodec
from polycodec import decode, encode
from polycodec.codecs.files.image.encode import UNHEARD
from polycodec.codecs.stored import load_codec
from polycodec.errors import InputError


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return saved_in(tmp_path_factory.mktemp("granular"))


@pytest.fixture(scope="module")
def codec(path):
    return load_codec(path, name="image/test")


def pixels_of(h: int = 192, w: int = 256) -> np.ndarray:
    """(h, w, 3) uint8 of the picture."""
    return (picture(h, w)[0].permute(1, 2, 0) * 255).round().byte().numpy()


def test_detail_goes_where_it_is_wished_for_at_equal_cost(codec, tmp_path):
    pixels = pixels_of()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[96:160, 32:96] = 255  # little grain: not where the codes are spent unasked
    Image.fromarray(mask).save(tmp_path / "mask.png")
    found = {}
    for roi in (None, tmp_path / "mask.png"):
        options = {"codec": codec, "quality": 40, "force": True, "roi": roi}
        made = encode(tmp_path / "a.png", tmp_path / "a.plc", **options)
        decode(tmp_path / "a.plc", tmp_path / "b.png", codec=codec, force=True)
        drawn = None if roi is None else mask / 255
        encoder = codec.image_encoder(pixels, 255, 0)
        if drawn is not None:
            encoder.wish(drawn)
        found[roi] = made.bytes, fine_of(encoder.codes(0, codec.level_of(40)))[0]
    (before, plain), (after, wished) = found.values()
    assert abs(after / before - 1) < 0.03
    inside = slice(6, 10), slice(2, 6)
    assert int(plain[inside].sum()) == 0 < int(plain.sum())
    assert int(wished[inside].sum()) == int(wished.sum()) == int(plain.sum())
    Image.fromarray(mask[1:]).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=r"256x191; expected 256x192"):
        encode(tmp_path / "a.png", tmp_path / "c.plc", codec=codec, roi=roi)


def test_masks_are_drawn_on_what_is_seen(codec, tmp_path):
    """A picture that is stored turned, a mask that is not, one with alpha: one map."""
    pixels, mask = pixels_of(), np.zeros((192, 256), np.uint8)
    mask[96:160, 32:96] = 255
    turned = Image.Exif()
    turned[274] = 6  # a quarter turn clockwise is how it is seen
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=turned.tobytes())
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    Image.fromarray(mask).save(tmp_path / "plain-mask.png")
    Image.fromarray(np.rot90(mask, -1)).save(tmp_path / "seen.png")
    Image.fromarray(mask).save(tmp_path / "also.png", exif=turned.tobytes())
    shape = np.dstack([np.full_like(pixels, 255), mask])
    Image.fromarray(shape).save(tmp_path / "alpha.png")

    def codes(name: str, roi: str) -> np.ndarray:
        file = tmp_path / "a.plc"
        options = {"codec": codec, "quality": 40, "roi": tmp_path / roi, "force": True}
        encode(tmp_path / name, file, **options)
        return polycodec.tokens(file, codec=codec).codes

    wanted = codes("plain.png", "plain-mask.png")
    for name, roi in (
        ("turned.png", "seen.png"),
        ("turned.png", "also.png"),
        ("plain.png", "alpha.png"),
    ):
        assert np.array_equal(codes(name, roi), wanted), roi
    with pytest.raises(InputError, match="256x192; expected 192x256"):
        codes("turned.png", "plain-mask.png")


def test_a_mask_that_changes_nothing_is_said(codec, tmp_path):
    Image.fromarray(pixels_of()).save(tmp_path / "a.png")
    flat, all_of_it = np.zeros((192, 256), np.uint8), np.full((192, 256), 255, np.uint8)
    flat[:48] = 255
    for mask, quality in ((all_of_it, 40), (flat, 40), (flat, 100)):
        Image.fromarray(mask).save(tmp_path / "mask.png")
        options = {"codec": codec, "quality": quality, "force": True}
        roi = tmp_path / "mask.png"
        made = encode(tmp_path / "a.png", tmp_path / "a.plc", roi=roi, **options)
        assert made.notes == [UNHEARD]
        plain = encode(tmp_path / "a.png", tmp_path / "b.plc", **options)
        assert not plain.notes
        assert (tmp_path / "a.plc").read_bytes() == (tmp_path / "b.plc").read_bytes()


def test_tokens_have_all_planes_that_the_map_names(codec, tmp_path):
    Image.fromarray(pixels_of(64, 64)).save(tmp_path / "a.png")
    tokens = polycodec.tokens(tmp_path / "a.png", codec=codec)
    for planes in (21, 6, 1):
        fewer = dataclasses.replace(tokens, codes=tokens.codes[:planes])
        for name in ("b.plc", "b.png"):
            with pytest.raises(InputError, match=f"{planes} levels; expected all 22"):
                polycodec.tokens(fewer, tmp_path / name, codec=codec)
            assert not (tmp_path / name).exists()


def test_info_shows_the_map_as_numbers_and_as_a_picture(codec, path, tmp_path, cli):
    pixels = pixels_of()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    file = tmp_path / "a.plc"
    encode(tmp_path / "a.png", file, codec=codec, quality=40)
    plot = tmp_path / "map.png"
    options = "--map", "--plot", plot, "--checkpoint", path, "--json"
    code, out, err = cli("info", file, *options)
    assert code == 0, err
    found = json.loads(out)["map"]
    codes = codec.encode_codes(picture(), codec.level_of(40))
    counts = codec.quantizer.sent(codes)[0, 1:].sum(0)
    assert found["codes"] == counts.tolist() and found["coarse"] >= 0.25
    mean = float(counts.float().mean())
    assert found["codes_a_cell"] == pytest.approx(mean, abs=1e-3)
    shares = found["coarse"] + found["medium"] + found["fine"]
    assert shares == pytest.approx(1, abs=1e-3)
    drawn = np.asarray(Image.open(plot))
    assert drawn.shape == pixels.shape[:2] and drawn[0, 0] == 0
    assert (drawn == 255).mean() == pytest.approx(found["fine"], abs=1e-3)
    assert cli("info", file, "--checkpoint", path)[0] == 0
    assert cli("info", file, "--plot", plot, "--checkpoint", path)[0] == 3  # is there
    code, _, err = cli("info", file, "--plot", file, "--checkpoint", path, "--force")
    assert code == 2 and "PNG" not in err and file.read_bytes()[:3] != b"\x89PN", err
    for name, word in (("map.jpg", r"ends in .png"), ("-", "ends in .png")):
        code, _, err = cli("info", file, "--plot", name, "--checkpoint", path)
        assert code == 2 and word in err
    encode(tmp_path / "a.png", tmp_path / "b.plc", codec=codec)
    code, _, err = cli("info", tmp_path, "--plot", tmp_path / "c.png")
    assert code == 2 and "of one file; found 2" in err
