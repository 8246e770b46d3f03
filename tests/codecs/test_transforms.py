# SPDX-License-Identifier: Apache-2.0
"""Layers of image transforms; what all transforms promise is among the contracts."""

from __future__ import annotations

import torch

from polycodec.codecs.transforms.image.conv import GDN
from polycodec.codecs.transforms.rate import RateScale
from polycodec.registry import build

M, KNOTS = 6, 3


LEVEL = torch.tensor([0.5])


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
