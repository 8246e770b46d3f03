# SPDX-License-Identifier: Apache-2.0
"""Images as networks through files: there and back, parts, damage, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from polycodec.codecs.files import api
from polycodec.codecs.measures.image import psnr
from polycodec.errors import BitstreamError, UsageError
from tests.signals import photo

CONFIG = """
codec:
  name: implicit
  signal: {signal}
  network: {{name: coordinates, depth: 2}}
  fit: {{epochs: 100, lr: 0.003}}
  bpp: [1, 16]
"""


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    (folder / "own.yaml").write_text(CONFIG.format(signal="image"))
    Image.fromarray(photo(3, (21, 30))).save(folder / "a.png")
    api.encode(folder / "a.png", folder / "a.plc", checkpoint=folder / "own.yaml")
    return folder


def decoded(folder, **options):
    target = folder / "back.png"
    given = {"checkpoint": folder / "own.yaml", "force": True, **options}
    api.decode(folder / "a.plc", target, **given)
    return np.asarray(Image.open(target))


def test_an_image_is_a_network_and_a_part_of_it_is_equal(coded):
    x, x_hat = np.asarray(Image.open(coded / "a.png")), decoded(coded)
    flat = np.broadcast_to(x.mean((0, 1), keepdims=True).round().astype("u1"), x.shape)
    assert psnr(x, x_hat) > psnr(x, flat) + 1
    part = decoded(coded, region=(4, 5, 9, 7))
    assert np.array_equal(part, x_hat[5:12, 4:13])


def test_damage_is_named(coded, tmp_path):
    (tmp_path / "own.yaml").write_bytes((coded / "own.yaml").read_bytes())
    data = bytearray((coded / "a.plc").read_bytes())
    data[-20] ^= 1
    (tmp_path / "a.plc").write_bytes(data)
    with pytest.raises(BitstreamError):
        decoded(tmp_path)


def test_what_it_does_not_do_is_said(coded, tmp_path):
    given = {"checkpoint": coded / "own.yaml", "force": True}
    with pytest.raises(UsageError, match="no tiles"):
        api.encode(coded / "a.png", tmp_path / "b.plc", tile=128, **given)
