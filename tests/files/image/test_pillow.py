# SPDX-License-Identifier: Apache-2.0
"""Pillow opens and saves .plc images; previews are made while decoding."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

import polycodec
import polycodec.pillow
from polycodec.codecs import zoo
from polycodec.codecs.files.image.smaller import render_smaller
from polycodec.codecs.signals.grid import Span
from polycodec.errors import UsageError


@pytest.fixture
def weights(monkeypatch, tiny_checkpoint):
    """`zoo.load` gives the tiny codec; the names that were asked for."""
    from polycodec.codecs.stored import load_codec

    asked: list[str] = []

    def load(name="image/default", device="cpu", **options):
        asked.append(name)
        return load_codec(tiny_checkpoint)

    monkeypatch.setattr(zoo, "load", load)
    polycodec.pillow._codec.cache_clear()
    return asked


def picture(mode: str, size: tuple[int, int] = (80, 72)) -> Image.Image:
    ramp = np.add.outer(np.arange(size[1]), np.arange(size[0]))
    if mode == "I;16":
        return Image.fromarray((ramp * 400).astype(np.uint16))
    colour = np.stack([ramp, ramp[::-1], ramp[:, ::-1], 100 + ramp], axis=2)
    return Image.fromarray(colour.astype(np.uint8), "RGBA").convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_what_pillow_saves_it_opens_as_polycodec_decodes_it(tmp_path, weights, mode):
    path = tmp_path / "a.plc"
    picture(mode).save(path, quality=90)
    assert weights == ["image/default"]
    with Image.open(path) as image:
        assert image.size == (80, 72) and image.format == "PLC"
        assert image.mode == {"P": "RGBA"}.get(mode, mode)
        assert weights == ["image/default"]  # nothing is decoded yet
        found = np.asarray(image)
    assert len(weights) == 2
    polycodec.decode(path, tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as image:
        assert np.array_equal(found, np.asarray(image))


def test_what_stands_beside_the_pixels_is_there_before_they_are_decoded(weights):
    image, out = picture("RGB"), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    about = {
        "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
        "xmp": b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>",
    }
    about["icc_profile"] = about["icc_profile"].tobytes()
    image.save(out, "PLC", exif=exif, dpi=(300, 300), **about)
    del weights[:]
    with Image.open(out) as image:
        assert {name: image.info[name] for name in about} == about
        assert image.getexif()[0x0112] == 6
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        assert not weights
        assert image.load()[3, 5] == image.getpixel((3, 5))


def test_sixteen_bits_of_colour_are_handed_out_in_eight(tmp_path, weights):
    deep = np.random.default_rng(0).integers(0, 65536, (40, 48, 3)).astype(">u2")
    (tmp_path / "a.ppm").write_bytes(b"P6 48 40 65535\n" + deep.tobytes())
    polycodec.encode(tmp_path / "a.ppm")
    with Image.open(tmp_path / "a.plc") as image:
        assert image.mode == "RGB" and np.asarray(image).dtype == np.uint8


def test_errors_are_those_that_pillow_s_users_catch(tmp_path, weights):
    path = tmp_path / "a.plc"
    with pytest.raises(OSError, match="cannot write mode CMYK as PLC"):
        Image.new("CMYK", (8, 8)).save(path)
    with pytest.raises(ValueError, match="quality is 101"):
        picture("RGB").save(path, quality=101)
    with pytest.raises(ValueError, match="is called subsampling"):
        picture("RGB").save(path, subsampling=0)
    with pytest.raises(ValueError, match="holds one image"):
        picture("RGB").save(path, save_all=True, append_images=[picture("L")])
    assert not path.exists()
    picture("RGB").save(path, save_all=True)
    data = path.read_bytes()
    with pytest.raises(OSError, match="the file is cut"):
        Image.open(io.BytesIO(data[:-9]))
    damaged = io.BytesIO(data[:5] + b"\xff" + data[6:])
    with pytest.raises(OSError, match="header"):
        Image.open(damaged)


def test_speech_is_no_image_for_pillow(tmp_path, sound_weights):
    import soundfile

    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    polycodec.encode(tmp_path / "a.wav")
    with pytest.raises(OSError, match="the file holds speech, no image"):
        Image.open(tmp_path / "a.plc")


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_a_preview_is_what_a_good_resampler_makes_of_the_whole(
    tmp_path, cli, weights, mode
):
    picture(mode, (200, 120)).save(tmp_path / "a.plc", quality=95, tile=64)
    assert cli("decode", "a.plc", "-o", "t.png", "--size", "25")[0] == 0
    with Image.open(tmp_path / "t.png") as image:
        assert image.size == (25, 15) and image.mode == mode
        found = np.asarray(image).astype(float)
    with Image.open(tmp_path / "a.plc") as image:
        whole = image.convert("F") if mode == "I;16" else image
        wanted = np.asarray(whole.resize((25, 15), Image.Resampling.LANCZOS))
    peak = 65535 if mode == "I;16" else 255
    assert np.abs(found - wanted).mean() < 0.01 * peak


def test_a_preview_is_never_larger_than_the_image(tmp_path, cli, weights):
    picture("RGB").save(tmp_path / "a.plc")
    assert cli("decode", "a.plc", "-o", "t.png", "--size", "80")[0] == 0
    assert cli("decode", "a.plc", "-o", "whole.png")[0] == 0
    assert (tmp_path / "t.png").read_bytes() == (tmp_path / "whole.png").read_bytes()
    assert cli("decode", "a.plc", "-o", "r.png", "--region", "0,0,9,60", "--size=20")
    assert Image.open(tmp_path / "r.png").size == (3, 20)
    with pytest.raises(UsageError, match="size is 0; expected a number of at least 1"):
        polycodec.decode(tmp_path / "a.plc", tmp_path / "t.png", size=0)


def test_a_preview_asks_for_bands_and_keeps_hidden_colour_out():
    pixels = np.full((96, 64, 3), 200, np.uint8)
    alpha = np.full((96, 64), 255, np.uint8)
    pixels[:, 32:], alpha[:, 32:] = 0, 0  # black, and not to be seen
    asked: list[tuple[int, int]] = []

    def render(part: Span) -> np.ndarray:
        asked.append(part.size)
        return pixels[part.slices]

    small, seen = render_smaller(render, Span(0, 0, 96, 64), 12, 24, alpha)
    assert asked == [(24, 64)] * 4
    assert small.shape == (12, 8, 3) and seen is not None and seen.shape == (12, 8)
    assert (small[seen > 0] == 200).all()
