# SPDX-License-Identifier: Apache-2.0
"""A file is written whole or not at all."""

from __future__ import annotations

import contextlib
import os

import numpy as np
import pytest

from polycodec.atomic import atomic_path, atomic_write
from polycodec.codecs.files.image.read import (
    FORMATS,
    ImageData,
    read_image,
    write_image,
)
from polycodec.errors import InputError

RGB = np.random.default_rng(0).integers(0, 256, (6, 11, 3)).astype(np.uint8)


def test_atomic_write(tmp_path) -> None:
    path = tmp_path / "a.bin"
    with atomic_write(path) as target:
        target.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    with pytest.raises(InputError, match="--force"), atomic_write(path):
        pass
    with atomic_write(path, force=True) as target:
        target.write(b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.bin"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, ValueError, InputError, SystemExit]
)
@pytest.mark.parametrize("before", [None, b"old"])
def test_nothing_half_written_is_left(tmp_path, error, before) -> None:
    path = tmp_path / "a.bin"
    if before:
        path.write_bytes(before)
    with pytest.raises(error), atomic_write(path, force=True) as target:
        target.write(b"half")
        raise error("stop")
    assert os.listdir(tmp_path) == (["a.bin"] if before else [])
    assert before is None or path.read_bytes() == before


@pytest.mark.parametrize("fails", [False, True])
def test_a_library_that_wants_a_name(tmp_path, fails) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with contextlib.suppress(KeyboardInterrupt), atomic_path(path) as name:
        with open(name, "wb") as file:
            file.write(b"new")
        if fails:
            raise KeyboardInterrupt
    assert path.read_bytes() == (b"old" if fails else b"new")
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path) -> None:
    path = tmp_path / "a.bin"
    with pytest.raises(InputError, match="meanwhile"), atomic_write(path) as target:
        target.write(b"mine")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_missing_folder_and_folder_as_file(tmp_path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        write_image(ImageData(RGB), tmp_path / "no" / "x.png")
    (tmp_path / "d.png").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        write_image(ImageData(RGB), tmp_path / "d.png", force=True)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_an_input_error() -> None:
    for suffix in FORMATS:
        picture = ImageData(RGB[..., :1] if suffix == ".pgm" else RGB)
        with pytest.raises(InputError, match="No space left"):
            write_image(picture, "/dev/full", suffix=suffix)


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_folder_without_permission_is_an_input_error(tmp_path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        write_image(ImageData(RGB), tmp_path / "x.png")


def test_symbolic_links_keep_pointing_to_their_file(tmp_path) -> None:
    (tmp_path / "link.ppm").symlink_to(tmp_path / "file.ppm")
    with pytest.raises(InputError, match="exists"):
        write_image(ImageData(RGB), tmp_path / "link.ppm")
    write_image(ImageData(RGB), tmp_path / "link.ppm", force=True)
    assert (tmp_path / "link.ppm").is_symlink()
    assert np.array_equal(read_image(tmp_path / "file.ppm").pixels, RGB)
