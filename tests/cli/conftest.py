# SPDX-License-Identifier: Apache-2.0
"""What several tests of the command line share."""

from __future__ import annotations

import pathlib

import pytest
from PIL import Image


@pytest.fixture
def tree(tmp_path, photo) -> pathlib.Path:
    """A folder of three photographs in two levels, and a text file."""
    root = tmp_path / "photos"
    (root / "2019").mkdir(parents=True)
    image = Image.open(photo)
    for name in ("a.png", "2019/b.png", "2019/c.jpg"):
        image.save(root / name)
    (root / "notes.txt").write_text("no image")
    return root
