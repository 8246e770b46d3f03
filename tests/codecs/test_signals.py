# SPDX-License-Identifier: Apache-2.0
"""What signals take and give in Python: taken as meant, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from polycodec.codecs.signals.windows import BlockStream
from polycodec.codecs.stored import load_codec
from polycodec.errors import BitstreamError, CodecError, InputError
from polycodec.registry import build


@pytest.fixture(scope="module")
def codec(tiny_checkpoint):
    return load_codec(tiny_checkpoint)


X = torch.rand(2, 3, 40, 33, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("x", "word"),
    [
        (255 * X, "from 0.* to 25.*expected 0 … 1"),
        (X - 0.5, "from -0"),
        (X.clone().fill_(float("nan")), "NaN"),
        (X.clone().fill_(float("inf")), "inf"),
        (X[:, :1], r"\(2, 1, 40, 33\).*\(batch, 3, height, width\)"),
        (X[0, 0], r"\(40, 33\)"),
        (X[None], r"\(1, 2, 3, 40, 33\)"),
        (X[:, :, :0], "0 samples"),
        ((255 * X).int(), "int32"),
        (X > 0.5, "bool"),
        (X.numpy(), "ndarray"),
        (Image.new("RGB", (8, 8)), "Image"),
        (b"abc", "bytes"),
        (None, "NoneType"),
        ("photo.png", "str.*polycodec.encode takes files"),
        (torch.zeros(1, 3, 8, 8).to_sparse(), "sparse or meta"),
        (torch.empty(1, 3, 8, 8, device="meta"), "sparse or meta"),
    ],
)
def test_what_is_no_image_is_named(codec, x, word):
    with pytest.raises(InputError, match=word):
        codec.compress(x)


def test_pictures_of_eight_bits_one_picture_and_several_sizes_are_taken(codec):
    whole = (255 * X).round().to(torch.uint8)
    assert codec.compress(whole) == codec.compress(whole / 255)
    assert codec.compress(X[0]) == codec.compress(X[:1])
    sizes = [X[0], X[:, :, :16], whole[0, :, :24, :24]]
    data = codec.compress(sizes)
    assert len(data) == 4
    shapes = [tuple(codec.decompress([item]).shape[1:]) for item in data]
    assert shapes == [(3, 40, 33), (3, 16, 33), (3, 16, 33), (3, 24, 24)]
    assert torch.equal(codec.decompress(data[0]), codec.decompress(data[:1]))
    assert codec.compress([]) == []
    with pytest.raises(BitstreamError, match="no signal to decompress"):
        codec.decompress([])


def test_signals_of_several_sizes_come_back_as_a_list_in_their_order(codec):
    sizes = [X[0], X[1, :, :16], X[1], X[0, :, :24, :24]]
    data = codec.compress(sizes)
    several = codec.decompress(data)
    assert [tuple(x.shape[1:]) for x in several] == [tuple(x.shape) for x in sizes]
    for one, item in zip(several, data, strict=True):
        assert torch.allclose(one, codec.decompress(item), atol=1e-4)
    (several[1].detach().requires_grad_() * several[1]).sum().backward()
    mixed = codec.compress(X[:1], 20) + codec.compress(X[1:], 80)  # one size, two rates
    assert codec.decompress(mixed).shape == X.shape


def test_a_little_beyond_the_range_is_rounding(codec):
    over = X.clone()
    over[0, 0, 0, 0] = 1.0000001
    assert len(codec.compress(over)) == 2


def test_what_is_decoded_can_be_trained_on(codec):
    net = torch.nn.Conv2d(3, 1, 3)
    x_hat = codec.decompress(codec.compress(X))
    net(x_hat).sum().backward()
    assert net.weight.grad.abs().sum() > 0
    level = codec.level_of(50)
    codes = codec.encode_codes(X, level)
    coded = codec.write(codes, level)
    for made in (x_hat, codes, coded.codes, codec.read(coded.data, level, (3, 3))):
        assert not made.is_inference() and not made.requires_grad


def test_speech_is_checked_alike():
    signal = build("signal/speech")
    x = 0.4 * torch.randn(1, 1, 800, generator=torch.Generator().manual_seed(0)).sin()
    assert torch.equal(signal.checked(x[0]), x)
    whole = (x * 32767).to(torch.int16)
    assert torch.allclose(signal.checked(whole), x, atol=1e-4)
    for bad, word in ((40 * x, "scale or clamp"), (whole.int(), "int32")):
        with pytest.raises(InputError, match=word):
            signal.checked(bad)
    with pytest.raises(InputError, match="ndarray"):
        signal.checked(np.zeros((1, 1, 80)))


def test_what_is_no_list_of_bytes_is_named_and_iterators_are_read(codec):
    for wrong in (5, np.zeros(3), None):
        with pytest.raises(InputError, match="expected bytes"):
            codec.decompress(wrong)
    data = codec.compress(torch.rand(2, 3, 5, 7))
    assert torch.equal(codec.decompress(iter(data)), codec.decompress(data))


def test_every_cut_flip_and_splice_of_compressed_signals_is_noticed(codec):
    """The end of a short stream says little: of 1,500 flips 5 were silent once."""
    first, second = codec.compress(X[:, :, :32, :32], 20)
    wanted = codec.decompress([first])
    generator = np.random.default_rng(0)
    bad = [first[:n] for n in range(len(first))]
    for at in range(len(first)):
        flipped = bytearray(first)
        flipped[at] ^= 1 << int(generator.integers(8))
        bad.append(bytes(flipped))
    bad += [first[:n] + second[n:] for n in range(11, len(first)) if n < len(second)]
    bad += [first + b"\0", first + second]
    for data in bad:
        if data in (first, second):
            continue
        try:
            found = codec.decompress([data])
        except CodecError:
            continue
        assert found.shape == wanted.shape and torch.equal(found, wanted), data


def test_a_long_signal_is_not_copied_for_each_of_its_blocks():
    places = set()

    def run(window: torch.Tensor) -> torch.Tensor:
        places.add(window.untyped_storage().data_ptr())
        return window

    stream = BlockStream(run, block=3, context=(2, 1))
    signal = torch.arange(50.0)[None]
    assert torch.equal(torch.cat(stream.push(signal), dim=1), signal[:, :48])
    assert len(places) == 1
    assert stream.held.untyped_storage().nbytes() == 4 * (50 - 48 + 2)
    assert torch.equal(torch.cat(stream.flush(), dim=1), signal[:, 48:])
