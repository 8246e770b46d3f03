# SPDX-License-Identifier: Apache-2.0
"""The cache of decoded signals: what it holds is what lies in the folder."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import time

import numpy as np
import pytest
from PIL import Image

from polycodec.errors import InputError
from polycodec.train import cache as cache_module
from polycodec.train.image.data import ImageCache


def image(path: pathlib.Path, value: int) -> None:
    """A file whose size does not depend on ``value``."""
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((4, 6, 3), value, np.uint8)).save(path, "ppm")


def values(folder: pathlib.Path, cache: pathlib.Path, progress=None) -> list[int]:
    held = ImageCache(folder, cache, progress)
    assert held.shapes == [(4, 6, 3)] * len(held)
    return [int(held[i].min()) for i in range(len(held))]


def test_two_folders_of_equal_names_and_sizes_do_not_collide(tmp_path):
    for folder, value in (("a", 3), ("b", 4)):
        image(tmp_path / folder / "0.ppm", value)
    assert values(tmp_path / "a", tmp_path / "cache") == [3]
    assert values(tmp_path / "b", tmp_path / "cache") == [4]


def test_what_was_edited_is_decoded_anew_and_nothing_else(tmp_path):
    folder, cache, decoded = tmp_path / "a", tmp_path / "cache", []
    image(folder / "0.ppm", 3)
    for _ in range(2):
        assert values(folder, cache, lambda *at: decoded.append(at)) == [3]
    folder.rename(tmp_path / "moved")
    folder = tmp_path / "moved"
    assert values(folder, cache, lambda *at: decoded.append(at)) == [3]
    assert decoded == [(1, 1)]
    before = (folder / "0.ppm").stat()
    image(folder / "0.ppm", 5)
    times = before.st_atime_ns, before.st_mtime_ns  # as an archive sets them
    os.utime(folder / "0.ppm", ns=times)
    assert (folder / "0.ppm").stat().st_size == before.st_size
    assert values(folder, cache) == [5]
    (folder / "0.ppm").rename(folder / "1.ppm")
    image(folder / "0.ppm", 4)
    assert values(folder, cache) == [4, 5]


def test_an_unchanged_folder_is_not_read_again(tmp_path, monkeypatch):
    read = []

    def noted(path, mode):
        read.append(path.name)
        return open(path, mode)

    monkeypatch.setattr(cache_module, "open", noted, raising=False)
    folder, cache = tmp_path / "a", tmp_path / "cache"
    image(folder / "0.ppm", 3)
    image(folder / "1.ppm", 4)
    assert values(folder, cache) == values(folder, cache) == [3, 4]
    assert len(read) == 4  # what is as new as that may change unnoticed
    monkeypatch.setattr(cache_module, "_TICK", 0)
    read.clear()
    time.sleep(0.05)
    assert values(folder, cache) == values(folder, cache) == [3, 4]
    assert read == ["0.ppm", "1.ppm"]
    before = (folder / "0.ppm").stat()
    image(folder / "0.ppm", 5)
    os.utime(folder / "0.ppm", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert values(folder, cache) == [5, 4]
    (folder / "1.ppm").unlink()
    assert values(folder, cache) == [5]


def test_two_runs_fill_one_cache_at_once(tmp_path):
    for i in range(8):
        image(tmp_path / f"a/{i}.ppm", i)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        args = [[tmp_path / "a"] * 4, [tmp_path / "cache"] * 4]
        assert list(pool.map(values, *args)) == [list(range(8))] * 4
    kept = sorted(path.suffix for path in (tmp_path / "cache").iterdir())
    assert kept == [".json", ".raw"]


@pytest.mark.parametrize("suffix", [".raw", ".json"])
@pytest.mark.parametrize("content", [b"", b"x"])
def test_leftovers_are_filled_anew(tmp_path, suffix, content):
    image(tmp_path / "a/0.ppm", 3)
    values(tmp_path / "a", tmp_path / "cache")
    (kept,) = (tmp_path / "cache").glob(f"*{suffix}")
    kept.write_bytes(content)
    assert values(tmp_path / "a", tmp_path / "cache") == [3]


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    image(tmp_path / "a/0.ppm", 3)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file.*data\.cache"):
        values(tmp_path / "a", tmp_path / "file/cache")


def test_a_full_disk_leaves_nothing_and_is_named(tmp_path, monkeypatch):
    def full(name, target):
        raise OSError(28, "No space left on device")

    image(tmp_path / "a/0.ppm", 3)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        values(tmp_path / "a", tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_images_of_more_than_8_bits_are_scaled_not_cut_off(tmp_path):
    """Pillow makes 255 of every 16-bit sample above it."""
    ramp = np.linspace(0, 65535, 4 * 64).astype(np.uint16).reshape(4, 64)
    (tmp_path / "a").mkdir()
    Image.fromarray(ramp).save(tmp_path / "a/0.png")
    (tmp_path / "a/1.pgm").write_bytes(
        b"P5 64 4 1023\n" + (ramp >> 6).astype(">u2").tobytes()
    )
    held = ImageCache(tmp_path / "a", tmp_path / "cache")
    for i in range(2):
        assert held[i].shape == (4, 64, 3)
        assert np.abs(held[i] - ramp[..., None] / 257).max() <= 1
    (tmp_path / "b").mkdir()
    Image.fromarray(np.ones((4, 6), np.float32)).save(tmp_path / "b/0.tif")
    with pytest.raises(InputError, match=r"0\.tif"):
        ImageCache(tmp_path / "b", tmp_path / "cache")
