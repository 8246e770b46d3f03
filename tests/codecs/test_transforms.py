# SPDX-License-Identifier: Apache-2.0
"""Every registered transform: its stride, its reach (the halo of tiles), its parts."""

from __future__ import annotations

import pytest
import torch

from polycodec.codecs.transforms.image.conv import GDN
from polycodec.codecs.transforms.rate import RateScale
from polycodec.registry import build, find, names

# Transforms of images have a stride; those of speech (a hop) have their own tests.
TRANSFORMS = [n.split("/")[1] for n in names("transform/*") if find(n).kind == "image"]
M, KNOTS = 6, 3


@pytest.fixture(params=TRANSFORMS)
def transform(request, tiny_codec):
    """A transform whose every path carries something: no weight is near zero."""
    torch.manual_seed(0)
    options = tiny_codec(request.param)["transform"]
    part = build(f"transform/{options.pop('name')}", channels=M, knots=KNOTS, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in part.parameters():
            noise = torch.randn(value.shape, generator=generator)
            value.add_(0.2 * noise if value.ndim > 1 else 0.02 * noise)
    return part.eval()


def changed_rows(before: torch.Tensor, after: torch.Tensor) -> tuple[int, int]:
    """First and last row that differ anywhere."""
    rows = (before != after).any(dim=3).any(dim=1)[0].nonzero().flatten()
    return int(rows.min()), int(rows.max())


LEVEL = torch.tensor([0.5])


@torch.inference_mode()
def test_sizes(transform):
    s = transform.stride
    y = transform.g_a(torch.rand(1, 3, 2 * s, 3 * s), LEVEL)
    assert y.shape == (1, M, 2, 3)
    assert transform.g_s(y, LEVEL).shape == (1, 3, 2 * s, 3 * s)


@torch.inference_mode()
def test_no_latent_looks_further_than_the_reach(transform):
    stride, reach = transform.stride, transform.halo[0]
    side = stride * (4 + 2 * -(-reach // stride))
    x = torch.rand(1, 3, side, stride, generator=torch.Generator().manual_seed(2))
    before = transform.g_a(x, LEVEL)
    furthest = 0
    for row in range(side // 2, side // 2 + stride):
        other = x.clone()
        other[:, :, row] += torch.linspace(1, 3, stride)
        top, bottom = changed_rows(before, transform.g_a(other, LEVEL))
        # Distance from the pixel to the block of pixels that a latent stands for.
        above, below = row - (stride * top + stride - 1), stride * bottom - row
        furthest = max(furthest, above, below)
        assert max(above, below) <= reach
    # A reach that is much too large would pass, and make every tile slow.
    assert furthest > reach - stride


@torch.inference_mode()
def test_no_pixel_looks_further_than_the_reach(transform):
    stride, reach = transform.stride, transform.halo[1]
    middle = reach + 1
    y = torch.randn(1, M, 2 * middle + 1, 2, generator=torch.Generator().manual_seed(3))
    before = transform.g_s(y, LEVEL)
    other = y.clone()
    other[:, :, middle] += torch.linspace(1, 3, M).view(1, -1, 1)
    top, bottom = changed_rows(before, transform.g_s(other, LEVEL))
    above, below = middle - top // stride, bottom // stride - middle
    assert max(above, below) == reach


def test_gdn_is_its_formula_and_starts_near_the_identity():
    torch.manual_seed(0)
    layer, inverse = GDN(5), GDN(5, inverse=True)
    x = torch.randn(2, 5, 3, 4)
    beta, gamma = torch.ones(5), 0.1 * torch.eye(5)
    norm = beta.view(-1, 1, 1) + torch.einsum("ij,bjhw->bihw", gamma, x**2)
    assert torch.allclose(layer(x), x / norm.sqrt(), atol=1e-6)
    assert torch.allclose(inverse(x), x * norm.sqrt(), atol=1e-6)


def test_gdn_stays_positive_and_can_leave_its_bound():
    layer = GDN(3)
    with torch.no_grad():
        layer.beta.fill_(-5.0)
        layer.gamma.fill_(-5.0)
    x = torch.randn(1, 3, 2, 2, requires_grad=True)
    out = layer(x)
    assert torch.isfinite(out).all()
    # Shrinking the output asks for a larger norm: the gradient must lead inside.
    out.square().sum().backward()
    assert (layer.beta.grad < 0).all()


@torch.inference_mode()
def test_rate_scale_interpolates_logarithms():
    scale = RateScale(2, KNOTS)
    scale.log_scale.copy_(torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, -1.0]]))
    at = scale.factor(torch.tensor([0.0, 0.5, 1.0, 1.75, 2.0, 9.0])).flatten(1).log()
    expected = [[0, 1], [1, 1], [2, 1], [3.5, -0.5], [4, -1], [4, -1]]
    assert torch.allclose(at, torch.tensor(expected, dtype=torch.float32), atol=1e-5)


@torch.inference_mode()
def test_conv_without_scales_ignores_the_level():
    part = build("transform/conv", channels=M, knots=KNOTS, width=4, scaled=False)
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(part.g_a(x, torch.tensor([0.0])), part.g_a(x, LEVEL))
