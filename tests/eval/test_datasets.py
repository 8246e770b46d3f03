# SPDX-License-Identifier: Apache-2.0
"""Data sets of pictures: folders, files, Kodak by its bytes, downloads checked."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from polycodec.codecs.files.image.formats.deep import write_png16
from polycodec.errors import InputError
from polycodec.eval.image import datasets
from polycodec.eval.image.datasets import IMAGES, ImageFile

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared"


def noise(size: tuple[int, int]) -> np.ndarray:
    """A picture (H, W, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "photos"
    place.mkdir()
    for name in "01":
        Image.fromarray(noise((180, 200))).save(place / f"{name}.png")
    return place


def test_a_folder_lists_its_pictures_and_says_when_there_are_none(folder, tmp_path):
    (folder / "notes.txt").write_text("not a picture")
    name, pictures = IMAGES.open(folder)
    assert name == "photos"
    assert [p.name for p in pictures] == ["0.png", "1.png"]
    assert pictures[0].read().shape == (180, 200, 3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images"):
        IMAGES.open(tmp_path / "empty")
    with pytest.raises(InputError, match="no such"):
        IMAGES.open(tmp_path / "nowhere")


def test_a_truncated_picture_is_named(folder):
    path = folder / "0.png"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(InputError, match=r"0\.png"):
        IMAGES.open(folder)[1][0].read()


def test_deep_pictures_are_refused_not_cut(tmp_path):
    """Pillow alone reads them as 8 bits, and figures were of what is left."""
    samples = np.full((8, 9, 3), 1000, np.uint16)
    with (tmp_path / "a.png").open("wb") as file:
        write_png16(file, samples)
    (tmp_path / "b.ppm").write_bytes(b"P6 9 8 65535\n" + samples.byteswap().tobytes())
    for name in ("a.png", "b.ppm"):
        with pytest.raises(InputError, match=f"{name} has 16 bits"):
            ImageFile(name, tmp_path / name).read()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_pictures_are_turned_upright_by_their_exif(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # the first row is the right side
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise((24, 32))).save(path, exif=exif)
    with Image.open(path) as image:
        expected = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    found = ImageFile("a", path).read()
    assert found.shape == (32, 24, 3) and np.array_equal(found, expected)


def test_gray_and_palettes_are_read_as_colour(tmp_path):
    for mode in ("L", "P"):
        image = Image.fromarray(noise((8, 9))).convert(mode)
        image.save(tmp_path / "a.png")
        expected = np.array(image.convert("RGB"))
        assert np.array_equal(ImageFile("a", tmp_path / "a.png").read(), expected)


def test_kodak_is_known_by_its_bytes(tmp_path, monkeypatch):
    monkeypatch.delenv(datasets.ENVIRONMENT, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert len(set(datasets.KODAK_SHA256.values())) == 24
    monkeypatch.setattr(datasets, "KODAK_URL", (tmp_path / "gone").as_uri() + "/{name}")
    with pytest.raises(InputError, match="--data"):
        datasets.kodak()
    for name in datasets.KODAK_SHA256:
        Image.fromarray(noise((8, 8))).save(tmp_path / name)
    with pytest.raises(InputError, match="not the Kodak image"):
        datasets.kodak(data=tmp_path)


def test_a_folder_called_kodak_is_not_kodak(tmp_path, monkeypatch):
    """Published curves of Kodak are never compared with other pictures."""
    monkeypatch.delenv(datasets.ENVIRONMENT, raising=False)
    place = tmp_path / "kodak"
    place.mkdir()
    Image.fromarray(noise((8, 8))).save(place / "kodim01.png")
    assert IMAGES.open(place)[0] == "kodak (own files)"
    digest = datasets.hashlib.sha256((place / "kodim01.png").read_bytes()).hexdigest()
    monkeypatch.setattr(datasets, "KODAK_SHA256", {"kodim01.png": digest})
    assert IMAGES.open(place)[0] == "kodak"


def test_kodak_has_no_cache_without_a_home(monkeypatch, homeless):
    monkeypatch.delenv(datasets.ENVIRONMENT, raising=False)
    with pytest.raises(InputError, match="set HOME or XDG_CACHE_HOME"):
        datasets.kodak()


def test_a_download_is_checked_before_it_gets_its_name(tmp_path, monkeypatch):
    monkeypatch.delenv(datasets.ENVIRONMENT, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = tmp_path / "source"
    source.mkdir()
    contents = {f"kodim{k:02d}.png": f"picture {k}".encode() for k in range(1, 25)}
    for name, data in contents.items():
        (source / name).write_bytes(data)
    monkeypatch.setattr(datasets, "KODAK_URL", source.as_uri() + "/{name}")
    with pytest.raises(InputError, match="other bytes"):
        datasets.kodak()
    assert not (tmp_path / "polycodec").exists()
    digests = {
        name: datasets.hashlib.sha256(data).hexdigest()
        for name, data in contents.items()
    }
    monkeypatch.setattr(datasets, "KODAK_SHA256", digests)
    found = datasets.kodak()
    assert len(found) == 24 and all(path.is_file() for path in found)


@pytest.mark.skipif(not (SHARED / "data/kodak").is_dir(), reason="no Kodak here")
def test_the_real_kodak_pictures_are_accepted():
    name, pictures = IMAGES.open("kodak", data=SHARED / "data")
    assert name == "kodak" and len(pictures) == 24
