# SPDX-License-Identifier: Apache-2.0
"""A tiny codec, and a clip that it has coded."""

from __future__ import annotations

import pytest

from polycodec.codecs.files import api
from tests.clips import read_clip, tiny_codec, write_clip


@pytest.fixture(scope="package")
def codec():
    return tiny_codec()


@pytest.fixture(scope="package")
def coded(codec, tmp_path_factory):
    """A clip of 10 frames with sound in groups of 4, its file, and its frames."""
    folder = tmp_path_factory.mktemp("coded")
    write_clip(folder / "clip.mkv", sound="flac")
    api.encode(folder / "clip.mkv", folder / "clip.plc", codec=codec, gop=4)
    api.decode(folder / "clip.plc", folder / "whole.mkv", codec=codec)
    return folder, (folder / "clip.plc").read_bytes(), read_clip(folder / "whole.mkv")
