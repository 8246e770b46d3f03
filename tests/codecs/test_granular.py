# SPDX-License-Identifier: Apache-2.0
"""Variable granularity: shares, maps, codes not sent, and where detail goes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from granular_codec import fine_of, picture, saved_in

from polycodec.codecs.stored import load_codec
from polycodec.codecs.transforms.image.activity import activity
from polycodec.entropy_models.coders import RangeDecoder, RangeEncoder
from polycodec.errors import CodecError, InputError, UsageError
from polycodec.registry import build
from polycodec.train.config import load_config


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return saved_in(tmp_path_factory.mktemp("granular"))


@pytest.fixture(scope="module")
def codec(path):
    return load_codec(path, name="image/test")


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        # 52.35 M of the encoder and 78.00 M of the decoder, as published; 1024 words.
        ("image/granular", (52_351_136, 78_003_735, 4096)),
        ("image/granular-small", (2_358_128, 3_936_471, 2048)),
    ],
)
def test_published_and_small_sizes(config, parameters):
    given = load_config(config, ["data.train=x"]).codec.options()
    with torch.device("meta"):
        codec = build("codec/token", **{**given, "entropy": None})
    parts = codec.transform.analysis, codec.transform.synthesis, codec.quantizer
    assert tuple(sum(p.numel() for p in x.parameters()) for x in parts) == parameters


def test_entropies_of_patches_and_flat_ones():
    x = picture(32, 32)
    x[..., :16, :16] = 0.4375  # a gray midway between bins
    found = activity(x, 16)[0, 0]
    assert found[0, 0] == 0 and bool((found[1] > 0).all())
    half = torch.zeros(1, 3, 16, 16)
    half[..., 8:] = 1  # two grays, each in the middle of its bin: one bit
    assert float(activity(half, 16)) == pytest.approx(1.0, abs=1 / 256)
    alone = torch.cat([activity(x[:, :, i : i + 16], 8) for i in (0, 16)], 2)
    assert torch.equal(activity(x, 8), alone)


def test_a_flat_picture_is_all_coarse_and_shares_are_within_one_patch(codec):
    q = codec.quantizer
    flat = codec.encode_codes(torch.full((1, 3, 64, 64), 0.37), q.steps)
    assert int(flat[:, 0].max()) == 0 and int(q.sent(flat).sum()) == 2 * 16
    ranks = torch.rand(1, 5, 8, 9, generator=torch.Generator().manual_seed(0)) + 1
    ranks[:, :, 2:5] = 1.5  # many are equal
    before = 0
    for rate in range(1, q.steps + 1):
        kind = q.allocate(ranks, rate)
        fine, _, coarse = q.shares(rate)
        assert abs(int((kind == 0).sum()) - 72 * coarse) <= 1
        assert abs(int(fine_of(kind).sum()) - 4 * 72 * fine) <= 1
        codes = torch.zeros(1, q.levels, 8, 9, dtype=torch.int64)
        codes[:, :1] = kind
        count = int(q.sent(codes)[:, 1:].sum())
        assert count >= before and abs(q.rate_of(codes) - rate) <= 1
        before = count
    assert before == 16 * 72


def test_masks_are_disjoint_and_words_stand_where_they_belong(codec):
    q = codec.quantizer
    codes = codec.encode_codes(picture(), 25)
    z_hat = q.decode(codes)
    fine, coarse = z_hat[:, -2], z_hat[:, -1]
    assert not bool((fine * coarse).any())
    assert 0 < float(fine.mean()) < 1 and 0 < float(coarse.mean()) < 1
    at = (codes[0, 0] == 0).nonzero()[-1] * 4
    cell = z_hat[0, : q.word, at[0] : at[0] + 4, at[1] : at[1] + 4]
    word = q.words[codes[0, 1, at[0] // 4, at[1] // 4]]
    assert torch.equal(cell, word[:, None, None].expand_as(cell))
    z = codec.analyse(codec.signal.prepared(picture()), 1)
    seen = q(z, rate=torch.tensor([25]))  # of training
    assert torch.equal(seen.codes.clamp_min(0), codes)
    torch.testing.assert_close(seen.z_hat, z_hat)
    with pytest.raises(InputError, match="map of plane 0 sends none"):
        codec.check_codes(codes.index_fill(1, torch.tensor([6]), 1))


def test_codes_are_the_same_alone_in_a_batch_and_in_tiles(codec):
    pixels = (picture()[0].permute(1, 2, 0) * 255).round().byte().numpy()
    whole = codec.encode_codes(picture(), 25)
    batch = codec.encode_codes(torch.cat([1 - picture(), picture()]), 25)
    assert torch.equal(batch[1:], whole)
    encoder = codec.image_encoder(pixels, 255, 128)
    for k in range(len(encoder.grid)):
        rows, columns = encoder.grid.span(k).scaled(16).slices
        assert torch.equal(encoder.codes(k, 25), whole[:, :, rows, columns])


def test_bytes_rise_with_the_rate_and_what_is_not_sent_costs_none(codec):
    sizes = []
    for level in codec.quantizer.measured:
        codes = codec.encode_codes(picture(), level)
        coded = codec.write(codes, level)
        assert torch.equal(codec.read(coded.data, level, codes.shape[2:]), codes)
        assert 8 * len(coded.data[0]) <= 1.01 * coded.estimated_bits[0] + 64
        sizes.append(len(coded.data[0]))
    assert sizes == sorted(set(sizes)) and sizes[-1] > 4 * sizes[0]
    flat = codec.encode_codes(torch.full((1, 3, 256, 256), 0.5), 41)
    # 256 cells of one map value and one code: at most 4.1 + 6 bits each.
    assert codec.write(flat, 41).estimated_bits[0] < 256 * 16


def test_damaged_streams_decode_or_are_named(codec):
    x = picture(64, 64)
    data = bytearray(codec.compress(x, 50)[0])
    whole, refused = codec.decompress(bytes(data)), 0
    for place in range(0, len(data), 3):
        bad = bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            assert not torch.equal(codec.decompress(bad), whole)
        except CodecError:
            refused += 1
    assert refused > len(data) // 6  # what decodes all the same is other codes
    with pytest.raises(CodecError):
        codec.decompress(bytes(data[:12]))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 1), (5, 4), (9,)])
def test_maps_of_any_size_come_back(codec, size):
    model = codec.entropy
    generator = torch.Generator().manual_seed(len(size))
    codes = torch.randint(0, 17, (2, 22, *size), generator=generator)
    codes = codes.where(codec.quantizer.sent(codes), 0)
    coder = RangeEncoder(2)
    model.code(coder, codes, tuple(codes.shape))
    decoder = RangeDecoder(coder.finish(), device="cpu")
    assert torch.equal(model.code(decoder, None, tuple(codes.shape)), codes)
    decoder.finish()


def test_other_codecs_have_no_map_to_draw(tiny_checkpoint):
    codec = load_codec(tiny_checkpoint)
    encoder = codec.image_encoder(np.zeros((64, 64, 3), np.uint8), 255, 0)
    with pytest.raises(UsageError, match="leave --roi out"):
        encoder.wish(np.ones((64, 64)))
