# SPDX-License-Identifier: Apache-2.0
"""Quantizers of cells of images: a cascade of codebooks, codes of resolutions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_parts import TINY, cascade, tiny

from polycodec import decode, encode
from polycodec.codecs.quantizers.cascade import books as books_module
from polycodec.codecs.quantizers.cascade.books import Books, RunningBooks
from polycodec.codecs.stored import load_codec
from polycodec.errors import InputError, ModelError, UsageError
from polycodec.registry import build, find, names

EVERY = [n for n in names("quantizer/*") if "/test-" not in n]
AROUND = [n for n in EVERY if find(n).kind == "image"]
CHANNELS = 12
CONFIG = cascade()
around = pytest.mark.parametrize("name", AROUND)


def latents(rows: int = 2, columns: int = 3, stride: int = 8) -> torch.Tensor:
    shape = (2, CHANNELS, rows * stride, columns * stride)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def made(config: dict = CONFIG):
    torch.manual_seed(0)
    codec = build("codec/token", **{k: v for k, v in config.items() if k != "name"})
    codec.freeze(lambda codec: None)
    codec.name, codec.digest = "image/test", b"test"
    return codec


def test_there_is_one_that_looks_around():
    assert "quantizer/cascade" in AROUND


@pytest.mark.parametrize(
    ("channels", "groups", "codes", "depth", "parameters"),
    [
        (128, 2, (8192, 2048, 512), 3, 50_558_738),
        (192, 12, (8192, 2048, 512), 3, 112_677_552),
        (64, 2, (1024, 256, 64), 1, 7_079_826),
        (48, 2, (1024, 256, 64), 3, 6_995_634),
    ],
)
def test_published_sizes(channels, groups, codes, depth, parameters):
    """50.6 M and 112.7 M as the published layouts, 7.08 M and 7.00 M as small ones."""
    with torch.device("meta"):
        codec = build(
            "codec/token",
            signal="image",
            channels=channels,
            transform={"name": "attention", "depth": depth},
            quantizer={
                "name": "cascade",
                "codes": codes,
                "groups": groups,
                "depth": depth,
            },
        )
    assert sum(p.numel() for p in codec.parameters()) == parameters
    assert len(codec.sizes) == 21 * groups
    # log2 of the codes of a cell, by pixel: the rate that m sets.
    bits = float(np.log2(codec.sizes).sum()) / codec.stride**2
    k0, k1, k2 = np.log2(codes)
    assert bits == pytest.approx(groups * (k0 / 256 + k1 / 1024 + k2 / 4096))


@around
def test_shapes_and_one_answer_three_ways(name):
    quantizer = tiny(name, channels=CHANNELS).eval()
    z = latents(stride=quantizer.stride)
    codes = quantizer.encode(z)
    assert codes.shape == (2, quantizer.levels, 2, 3) and codes.dtype == torch.int64
    z_hat = quantizer.decode(codes)
    assert z_hat.shape == z.shape and z_hat.dtype == torch.float32
    with torch.no_grad():
        seen = quantizer(z)
    assert seen.loss.shape == (2,) and torch.equal(seen.codes.clamp_min(0), codes)
    assert torch.allclose(seen.z_hat, z_hat, atol=1e-5)


@around
def test_gradients_reach_the_encoder_and_parameters(name):
    quantizer, z = tiny(name, channels=CHANNELS).train(), latents().requires_grad_()
    seen = quantizer(z)
    (seen.z_hat.square().sum() + seen.loss.sum()).backward()
    assert (z.grad.abs().sum((1, 2, 3)) > 0).all()
    for key, parameter in quantizer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


@around
def test_codes_outside_the_codebook_are_named(name):
    quantizer = tiny(name, channels=CHANNELS).eval()
    codes = quantizer.encode(latents())
    for level in (0, quantizer.levels - 1):
        for bad in (-1, quantizer.sizes[level]):
            wrong = codes.clone()
            wrong[1, level, 1, 2] = bad
            with pytest.raises(InputError, match=f"level {level} .*expected 0"):
                quantizer.decode(wrong)
    for wrong in (codes[:0], codes.to(torch.int16), codes.float()):
        with pytest.raises(InputError, match="int32 or int64"):
            quantizer.decode(wrong)
    for wrong in (codes[:, 1:], torch.cat([codes, codes[:, :1]], 1)):
        with pytest.raises(InputError, match="levels"):
            quantizer.decode(wrong)


@pytest.mark.parametrize("name", EVERY)
def test_planes_say_what_they_are_given(name):
    quantizer = tiny(name, channels=CHANNELS)
    given, alike = quantizer.given, quantizer.alike
    assert len(given) == len(alike) == quantizer.levels == quantizer.rates[-1]
    kinds: dict[int, tuple] = {}
    for plane, above in enumerate(given):
        assert all(0 <= k < plane for k in above)
        kind = quantizer.sizes[plane], tuple(alike[k] for k in above)
        assert kinds.setdefault(alike[plane], kind) == kind


def test_planes_are_the_maps_of_the_levels():
    quantizer = tiny("quantizer/cascade", channels=CHANNELS).eval()
    z = latents()
    maps = [level.codes for level in quantizer._made(z)]
    assert [m.shape[2:] for m in maps] == [(8, 12), (4, 6), (2, 3)]
    planes = quantizer.encode(z)
    back = quantizer._maps(planes)
    assert all(torch.equal(a, b) for a, b in zip(back, maps, strict=True))
    # Plane: level 0 begins behind 1 + 4 cells of two groups; row 2, column 1, group 1.
    assert torch.equal(planes[:, (5 + 2 * 4 + 1) * 2 + 1], maps[0][:, 1, 2::4, 1::4])
    above = quantizer.given[(5 + 2 * 4 + 1) * 2 + 1]
    assert above == (2 * (1 + 2), 2 * (1 + 2) + 1, 0, 1)


def test_coarser_levels_estimate_what_finer_ones_leave():
    """Words of a level change what the next one is given, and the result."""
    quantizer = tiny("quantizer/cascade", channels=CHANNELS).eval()
    z = latents()
    before = quantizer.encode(z), quantizer.decode(quantizer.encode(z))
    with torch.no_grad():
        quantizer.cascade[0].books.words.mul_(3)
    codes = quantizer.encode(z)
    assert not torch.equal(codes[:, :10], before[0][:, :10])
    assert not torch.allclose(quantizer.decode(before[0]), before[1])


@torch.no_grad()
def test_words_are_sampled_by_their_likelihood():
    torch.manual_seed(0)
    books = Books(6, 3, 4).train()
    x = torch.randn(1, 6, 1, 1).expand(1, 6, 100, 100)
    index = books(x)[1]
    for group in range(3):
        apart = (x[0, 2 * group : 2 * group + 2, 0, 0] - books.words[group]).square()
        wanted = (-apart.sum(1) / 2).softmax(0)  # T = 1, √k = 2
        share = torch.bincount(index[0, group].flatten(), minlength=4) / 1e4
        assert torch.allclose(share, wanted, atol=0.02)
    q, nearest, _ = books.eval()(x)
    assert (nearest == nearest[..., :1, :1]).all()
    assert torch.equal(q, books.decode(nearest))


def test_parts_of_many_positions_are_one(monkeypatch):
    """Distances computed piece by piece, and again for gradients: nothing changes."""
    torch.manual_seed(0)
    books, x = Books(6, 3, 4).train(), torch.randn(2, 6, 4, 4)
    grads = []
    for limit in (1 << 24, 12 * 16):
        monkeypatch.setattr(books_module, "DISTANCES", limit)
        torch.manual_seed(1)
        leaf = x.clone().requires_grad_()
        books(leaf)[0].square().sum().backward()
        grads.append((leaf.grad, books.words.grad.clone()))
        books.words.grad = None
    # The same noise is drawn in the same order, and again where it is needed again.
    for one, two in zip(*grads, strict=True):
        assert one.abs().sum() > 0 and torch.allclose(one, two, rtol=1e-4, atol=1e-6)


def running(seed: int = 0):
    torch.manual_seed(seed)
    return tiny("quantizer/cascade", channels=CHANNELS, running=True)


def test_a_level_gains_nothing_by_shrinking():
    """Nor by growing: how far latents are from words is counted in their variance."""
    books, x = RunningBooks(6, 3, 4), torch.randn(2, 6, 4, 4)
    _, index, apart = books.eval()(x)
    with torch.no_grad():
        for book in books.books:
            book.vectors.mul_(0.01)
    _, small, as_far = books(0.01 * x)
    assert torch.equal(index, small) and torch.allclose(apart, as_far, rtol=1e-3)
    x = x.requires_grad_()  # as the loss sees it: words are means, which follow
    books.start(x.detach())
    books(x)[2].sum().backward()
    pull, along = x.grad.norm() * x.norm(), (x.grad * x).sum()
    assert pull > 0 and along.abs() < 1e-4 * pull


def test_words_follow_latents_which_learn_straight_through():
    quantizer, z = running().eval(), torch.randn(2, CHANNELS, 16, 16)
    before = [[b.vectors.clone() for b in at.books.books] for at in quantizer.cascade]
    codes, leaf = quantizer.encode(z), z.clone().requires_grad_()
    out = quantizer.train()(leaf)
    assert torch.equal(out.codes, codes) and bool((out.loss > 0).all())
    out.z_hat.square().mean().backward()
    assert leaf.grad.abs().sum() > 0
    for level, words in zip(quantizer.cascade, before, strict=True):
        assert all(w.grad.abs().sum() > 0 for w in level.head.parameters())
        for book, old in zip(level.books.books, words, strict=True):
            assert not torch.equal(book.vectors, old)
    # What is straight through is the latents' own gradient.
    books, x = RunningBooks(6, 3, 4).eval(), torch.randn(2, 6, 4, 4).requires_grad_()
    books(x)[0].sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_before_there_are_words_noise_stands_for_them():
    quantizer, z = running().eval(), latents()
    still = quantizer.relaxed(z)
    assert torch.equal(still, quantizer.relaxed(z)) and still.shape == z.shape
    assert not torch.allclose(quantizer.train().relaxed(z), still)
    books = RunningBooks(6, 3, 4).train()
    x = (
        torch.randn(1, 6, 300, 300)
        * torch.tensor([1, 1, 9, 9, 0.1, 0.1])[:, None, None]
    )
    noise = (books.relaxed(x) - x).std((0, 2, 3))
    wanted = torch.tensor([0.3, 0.3, 2.7, 2.7, 0.03, 0.03])
    assert torch.allclose(noise, wanted, rtol=0.02)
    assert torch.equal(books.eval().relaxed(x), x)


def test_words_start_as_means_of_what_a_level_is_given():
    quantizer, z = running().eval(), torch.randn(4, CHANNELS, 32, 32)
    seen = [at.apart.mean() for at in quantizer._made(z)]
    quantizer.initialise(z)
    for level, before in zip(quantizer._made(z), seen, strict=True):
        assert level.apart.mean() < 0.6 * before
    published = tiny("quantizer/cascade", channels=CHANNELS).eval()
    words = published.cascade[0].books.words.clone()
    published.initialise(z)
    assert torch.equal(published.cascade[0].books.words, words)


def test_dead_words_become_latents_that_are_seen():
    torch.manual_seed(0)
    quantizer = tiny("quantizer/cascade", channels=CHANNELS).eval()
    z = torch.randn(2, CHANNELS, 16, 16)
    assert quantizer.renew(z) == ()
    first, second = quantizer.cascade[:2]
    words = second.books.words.detach().clone()  # 8
    second.books.shares[0] = torch.tensor([0.6, 0, 0.3, 0, 0, 0, 0, 0.1])
    assert quantizer.renew(z) == ("cascade.1.books.",)
    moved = (second.books.words[0] != words[0]).any(1)
    assert moved.tolist() == [False, True, False, True, True, True, True, False]
    assert torch.equal(second.books.words[1], words[1])
    seen = second.head(second.stage(first(z)[2]))[:, : words.shape[2]].movedim(1, -1)
    for word in second.books.words[0][moved]:
        assert (seen == word).all(-1).any()
    assert quantizer.renew(z) == ()  # each is given time


def test_nearest_words_are_counted_while_training():
    quantizer = tiny("quantizer/cascade", channels=CHANNELS).train()
    for _ in range(3):
        quantizer(latents())
    quantizer.eval()(latents())
    books = quantizer.cascade[0].books
    assert torch.allclose(books.shares.sum(1), torch.ones(2), atol=1e-5)
    unused = float(books.shares.min())
    assert unused == pytest.approx(0.99**3 / 16, rel=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (37, 53), (64, 64), (130, 65)])
def test_files_of_odd_sizes(size, tmp_path):
    codec = made()
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    made_of = encode(tmp_path / "in.png", tmp_path / "a.plc", codec=codec)
    asked = encode(tmp_path / "in.png", tmp_path / "q.plc", codec=codec, quality=9)
    one_rate = "'image/test' has one rate; quality changes nothing"
    assert one_rate in asked.notes and one_rate not in made_of.notes
    decode(tmp_path / "a.plc", tmp_path / "whole.png", codec=codec)
    whole = np.array(Image.open(tmp_path / "whole.png"))
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    x_hat = codec.decompress(codec.compress(x))
    there = (255 * x_hat[0].permute(1, 2, 0)).numpy()
    assert whole.shape == pixels.shape and np.abs(whole - there).max() < 0.51
    if size == (130, 65):
        part = tmp_path / "part.png"
        decode(tmp_path / "a.plc", part, codec=codec, region=(7, 70, 40, 50))
        seen = np.array(Image.open(part)).astype(int)
        assert np.abs(seen - whole[70:120, 7:47]).max() <= 1
        with pytest.raises(UsageError, match="there are no tiles"):
            encode(tmp_path / "in.png", tmp_path / "b.plc", codec=codec, tile=64)


def test_saved_weights_code_the_same(tmp_path):
    codec = made()
    codec.save(tmp_path / "a.safetensors", CONFIG)
    one, two = (load_codec(tmp_path / "a.safetensors") for _ in range(2))
    codes = one.encode_codes(torch.rand(2, 3, 70, 40), 1)
    coded = one.write(codes, 1)
    assert torch.equal(two.read(coded.data, 1, codes.shape[2:]), codes)
    assert 8 * len(coded.data[0]) <= 1.01 * coded.estimated_bits[0] + 8 * 64
    assert one.compress(torch.rand(1, 3, 9, 9), 0)[0][:8] == bytes([9, 0, 0, 0] * 2)


def test_groups_that_do_not_divide_are_named():
    with pytest.raises(ModelError, match=r"5 groups.*12 channels"):
        build(
            "quantizer/cascade", channels=12, **{**TINY["quantizer/cascade"]}, groups=5
        )
