# SPDX-License-Identifier: Apache-2.0
"""Groups of frames by a codec of images: chunks alone, in order, sealed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polycodec.codecs.signals import intra
from polycodec.errors import BitstreamError
from polycodec.registry import build
from tests.signals import photo

CONFIG = {
    "channels": 12,
    "transform": {"name": "conv", "width": 8},
    "entropy": {"name": "hyperprior", "hyper": 8, "features": 8, "hidden": 8},
}


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    codec = build("codec/latent", **CONFIG)
    codec.freeze(lambda c: c(torch.rand(2, 3, 64, 64), torch.zeros(2)))
    codec.name, codec.digest = "image/test", b"test"
    return codec


def clip(frames, height=37, width=53):
    still = torch.from_numpy(photo(1, (height, width))).permute(2, 0, 1) / 255
    return torch.stack([still.roll(3 * k, 2) for k in range(frames)])


def decoded(codec, chunks, frames, gop, size, quality=60, wanted=None):
    decoder = codec.group_decoder(size, gop, frames, quality)
    out = []
    for k, data in chunks.items():
        count = min(gop, frames - k * gop)
        out += decoder.frames(k, data, wanted or range(count))
    return torch.cat(out)


def coded(codec, x, gop, quality=60):
    encoder = codec.group_encoder(x.shape[2:], gop)
    firsts = range(0, len(x), encoder.gop)
    chunks = {
        k: encoder.chunk(k, x[first : first + encoder.gop], quality)
        for k, first in enumerate(firsts)
    }
    return chunks, encoder


def test_frames_are_what_the_codec_makes_of_each_image(codec, monkeypatch):
    monkeypatch.setattr(intra, "BATCH_PIXELS", 2 * 37 * 53)
    x = clip(5)
    chunks, encoder = coded(codec, x, 3)
    assert list(chunks) == [0, 1]
    out = decoded(codec, chunks, 5, 3, (37, 53))
    assert out.shape == x.shape
    each = [codec.decompress(codec.compress(one[None], 60)) for one in x]
    assert float((out - torch.cat(each)).abs().max()) < 1e-4  # batches round elsewhere
    bits = 8 * sum(map(len, chunks.values()))
    assert 0.5 * bits < encoder.estimated_bits < bits


def test_a_frame_is_the_same_whatever_else_is_decoded(codec, monkeypatch):
    monkeypatch.setattr(intra, "BATCH_PIXELS", 2 * 37 * 53)
    chunks, _ = coded(codec, clip(5), 5)
    whole = decoded(codec, chunks, 5, 5, (37, 53))
    for first, last in ((0, 1), (1, 3), (4, 5)):
        part = decoded(codec, chunks, 5, 5, (37, 53), wanted=range(first, last))
        assert torch.equal(part, whole[first:last])


def test_a_frame_in_another_place_is_no_frame(codec):
    chunks, _ = coded(codec, clip(4), 2)
    with pytest.raises(BitstreamError):
        decoded(codec, {0: chunks[1]}, 4, 2, (37, 53))
    with pytest.raises(BitstreamError):
        decoded(codec, chunks, 4, 2, (37, 53), quality=61)
    first, second = intra.unpack(chunks[0], 2)
    with pytest.raises(BitstreamError):
        decoded(codec, {0: intra.pack([second, first])}, 4, 2, (37, 53))


def test_large_frames_are_tiled(codec, monkeypatch):
    monkeypatch.setattr("polycodec.codecs.signals.grid.AUTO_PIXELS", 64 * 64)
    monkeypatch.setattr("polycodec.codecs.signals.grid.AUTO_TILE", 64)
    x = clip(2, 90, 150)
    chunks, encoder = coded(codec, x, 2)
    assert len(encoder.grid) == 6
    out = decoded(codec, chunks, 2, 2, (90, 150))
    untiled = codec.decode_codes(
        codec.encode_codes(x, codec.level_of(60)), codec.level_of(60), (90, 150)
    )
    assert float((out - untiled).abs().max()) < 0.01  # a code may round elsewhere


def test_sizes_of_streams_that_cannot_be(codec):
    streams = [bytes(range(n % 256)) * 3 for n in (0, 1, 200, 5)]
    assert intra.unpack(intra.pack(streams), 4) == streams
    for data in (b"", b"\x80", b"\x05abc", b"\xff\xff\xff\xff\xff\x01"):
        with pytest.raises(BitstreamError):
            intra.unpack(data, 3)


def test_groups_are_smaller_of_large_frames():
    assert [intra.choose_gop(s) for s in ((240, 416), (2160, 3840), (9000, 9000))] == [
        8,
        2,
        1,
    ]
    assert np.prod((1080, 1920)) * intra.choose_gop((1080, 1920)) <= intra.GROUP_PIXELS
