# SPDX-License-Identifier: Apache-2.0
"""Image transforms of published systems: their sizes, and what they promise."""

from __future__ import annotations

import pytest
import torch
from tiny_parts import shaken, tiny

from polycodec.codecs.signals.grid import Span
from polycodec.codecs.transforms.image.mixing import Mixing
from polycodec.codecs.transforms.image.reach import (
    conv,
    look,
    shuffle,
    transposed,
    unshuffle,
    windows,
)
from polycodec.codecs.transforms.image.shortcuts import Shortcut, haar, unhaar
from polycodec.codecs.transforms.image.swin import Enhancement, WindowAttention
from polycodec.errors import UsageError
from polycodec.registry import build


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("d", [8, 64])
def test_token_mixing_has_as_many_parameters_as_published(d):
    assert count(Mixing(d)) == 4 * d**2 + 56 * d


def test_transforms_of_published_width_have_the_published_sizes():
    # Counted by hand, layer by layer, from the papers' widths N = 192 and M = 320.
    mlic = build("transform/mixing", channels=320, blocks="residual", knots=1)
    N, M = 192, 320

    def conv_size(a: int, b: int, k: int = 3) -> int:
        return a * b * k * k + b

    gdn = N + N * N
    down = sum(
        conv_size(a, N) + conv_size(N, N) + gdn + conv_size(a, N, 1) for a in (3, N, N)
    )
    block = 2 * conv_size(N, N)
    assert count(mlic.g_a) == down + 3 * block + conv_size(N, M)
    ups = sum(2 * conv_size(a, 4 * N) + conv_size(N, N) + gdn for a in (M, N, N))
    last = conv_size(N, 12)
    assert count(mlic.g_s) == ups + 3 * block + 2 * conv_size(M, M) + last
    small = build("transform/mixing", channels=128, width=64, knots=1)
    assert round(count(small.g_a) / 1e6, 2) == 0.40
    assert round(count(small.g_s) / 1e6, 2) == 1.58


def test_an_unknown_block_is_named():
    with pytest.raises(UsageError, match="'transformer'; expected one of residual"):
        build("transform/mixing", channels=8, blocks="transformer")


def test_haar_is_orthonormal_and_has_an_inverse():
    x = noise(2, 3, 8, 12)
    bands = haar(x)
    assert torch.allclose(bands.square().sum(), x.square().sum())
    assert torch.allclose(unhaar(bands), x, atol=1e-6)
    flat = haar(torch.ones(1, 1, 4, 4))
    assert flat[:, 0].eq(2).all() and flat[:, 1:].eq(0).all()


@pytest.mark.parametrize("factor", [2, 4])
def test_shortcuts_are_linear_and_start_orthogonal(factor):
    down, up = Shortcut(3, 16, factor), Shortcut(16, 3, factor, up=True)
    x = noise(1, 3, 16, 16)
    y = down(x)
    assert y.shape == (1, 16, 16 // factor, 16 // factor)
    assert up(y).shape == x.shape
    for layer, given in ((down, x), (up, y)):
        assert layer.penalty() < 1e-9
        assert torch.allclose(layer(3 * given), 3 * layer(given), atol=1e-4)
    with torch.no_grad():
        down.mix.weight.mul_(2)
    assert down.penalty() > 0.01


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("residual", {}),
        ("conv", {}),
        ("mixing", {"width": 64}),
        ("swin", {"width": 64, "depths": [1, 1, 1], "growth": 8, "dense": 8}),
    ],
)
@torch.no_grad()
def test_shortcuts_start_as_the_transform_of_what_they_are_given(name, options):
    part = build(f"transform/{name}", channels=320, shortcut=True, knots=1, **options)
    x = torch.nn.functional.interpolate(noise(8, 3, 16, 16), scale_factor=8)
    x = x + 0.1 * noise(8, 3, 128, 128)
    assert part.initialise(x)
    for shortcuts in (part.g_a.shortcuts, part.g_s.shortcuts):
        assert all(layer.penalty() < 1e-9 for layer in shortcuts)
    y = x
    for layer in part.g_a.shortcuts:
        y = layer(y)
    variance = y.square().mean(dim=(0, 2, 3))
    assert (variance.diff() <= 1e-4).all() and variance.sum() < x.square().sum()
    for layer in part.g_s.shortcuts:
        y = layer(y)
    # 320 of 768 axes: what is lost is noise of 0.01, of 0.01 + 1.
    assert (y - x).square().mean() < 0.02
    # The whole pair starts as they are, but for small blocks behind zeros.
    level = torch.zeros(8)
    assert (part.g_s(part.g_a(x, level), level) - y).square().mean() < 1e-4


def test_a_slope_keeps_units_that_are_never_positive_learning():
    for slope, learns in ((0.0, False), (0.1, True)):
        part = build(
            "transform/residual", channels=8, widths=[8, 8], slope=slope, knots=1
        )
        block = part.g_a.stage2[0]
        torch.nn.init.constant_(block.reduce.bias, -100.0)
        block(torch.rand(1, 8, 4, 4)).square().sum().backward()
        assert bool(block.reduce.weight.grad.abs().sum() > 0) is learns


def test_training_is_told_of_the_penalty():
    for name in ("residual", "conv", "mixing", "swin"):
        part = f"transform/{name}"
        assert tiny(part, channels=6).penalty() is None
        assert tiny(part, channels=6, shortcut=True).penalty() is not None


def test_the_enhancement_starts_as_the_identity():
    x = noise(1, 3, 16, 16)
    assert torch.equal(Enhancement(4, 8)(x), x)


def test_windows_attend_to_what_is_there_alone():
    attention = WindowAttention(8, 2).eval()
    x, there = noise(2, 64, 8), torch.ones(2, 64, dtype=torch.bool)
    there[:, 40:] = False
    other = x.clone()
    other[:, 40:] = 100.0  # what lies beyond the edge changes nothing
    out, found = attention(x, there), attention(other, there)
    assert torch.equal(out[:, :40], found[:, :40])
    assert not torch.allclose(out[:, :40], attention(x, there | True)[:, :40])


@pytest.mark.parametrize("name", ["swin", "mixing", "residual"])
@torch.inference_mode()
def test_a_part_that_begins_with_the_period_is_as_in_the_whole(name):
    part = shaken(tiny(f"transform/{name}", channels=6))
    level, (pixels, latents) = torch.tensor([0.5]), part.tiling.halo
    x = noise(1, 3, 640, 32)
    core = Span(320, 0, 336, 32)
    window = core.grown(-(-pixels // 16) * 16, 640, 32).aligned(part.period)
    z = part.analyse(x, level)
    cut = part.analyse(x[:, :, slice(*(window.top, window.bottom))], level)
    rows, _ = core.inside(window).scaled(16).slices
    assert torch.allclose(cut[:, :, rows], z[:, :, 20:21], rtol=1e-3, atol=1e-4)
    window = core.scaled(16).grown(latents, 40, 2).aligned(part.period // 16)
    x_hat = part.synthesise(z, level)
    cut = part.synthesise(z[:, :, window.top : window.bottom], level)
    first = 16 * (20 - window.top)
    assert torch.allclose(
        cut[:, :, first : first + 16], x_hat[:, :, 320:336], rtol=1e-3, atol=1e-4
    )


def test_layers_look_where_arithmetic_says():
    assert look([conv(3)], 5, 5) == (4, 6)
    assert look([conv(5, 2)], 5, 6) == (8, 14)
    assert look([unshuffle(4)], 1, 1) == (4, 7)
    assert look([shuffle(2)], 4, 7) == (2, 3)
    assert look([windows(8)], 3, 8) == (0, 15)
    assert look([windows(8, 4)], 3, 4) == (-4, 11)
    # A transposed convolution of stride 2: even results see one input, odd ones two.
    assert look([transposed(3)], 4, 4) == (2, 2)
    assert look([transposed(3)], 5, 5) == (2, 3)
    assert look([conv(3), unshuffle(4), conv(3, 2)], 1, 1) == (3, 16)
