# SPDX-License-Identifier: Apache-2.0
"""S2LIC at its published size: counted by hand, layer by layer.

Published are the widths N = 192 and M = 320, depths and heads, and which networks there
are; the layers of contexts and blocks are read from figures, and no total is given.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn

from polycodec.registry import build
from polycodec.train.config import load_config

N, M = 192, 320


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def conv(a: int, b: int, k: int = 1) -> int:
    return a * b * k * k + b


def made(name: str, **changes) -> nn.Module:
    options = load_config(f"image/{name}").codec.options()
    options |= {k: {**options[k], **v} for k, v in changes.items()}
    with torch.device("meta"):
        return build("codec/latent", **options)


def dense(a: int, b: int, growth: int) -> int:
    layers = sum(conv(a + i * growth, growth, 3) for i in range(4))
    return layers + conv(a + 4 * growth, b, 3)


def block(heads: int) -> int:
    """SwinV2's, and N more: its keys have no bias, ours do."""
    attention = conv(N, 3 * N) + conv(N, N) + heads
    bias = conv(2, 512) + 512 * heads
    return attention + bias + 2 * 2 * N + conv(N, 4 * N) + conv(4 * N, N)


def test_the_transform_is_that_of_the_model_file():
    part = made("s2lic").transform
    enhancement = dense(3, 64, 32) + 2 * conv(64, 64) + conv(64, 64, 3)
    enhancement += dense(64, 3, 32)
    blocks = block(4) + 2 * block(8) + 3 * block(16)
    ends = conv(N, M, 3)
    assert count(part.g_a) == enhancement + conv(3, N, 5) + blocks + (
        2 * conv(N, N, 3) + ends
    )
    up = M * N * 9 + N
    assert count(part.g_s) == up + blocks + 2 * conv(N, N, 3) + (
        conv(N, 12, 3) + enhancement
    )
    ours = [m.drop for m in part.modules() if hasattr(m, "drop")]
    # 0 … 0.1 over eight blocks, of which the last two are not there.
    published = [0.1 * i / 7 for i in range(8)]
    assert ours == [*published[:6], *published[2:]]


def test_the_entropy_model_has_the_networks_of_the_model_file():
    model = made("s2lic").entropy
    h_a = conv(M, N, 3) + 4 * conv(N, N, 3)
    h_s = conv(N, M, 3) + conv(M, 4 * M, 3) + conv(M, 480, 3)
    assert count(model.h_a) == h_a
    assert count(model.h_s) == h_s + conv(480, 4 * 480, 3) + conv(480, 2 * M, 3)
    for i, part in enumerate(model.parts):
        before, near = 32 * i, 64  # of the figure, which the file does not have
        for half, net in enumerate(part.nets):
            inputs = 2 * M + 96 * (i > 0) + near * half
            widths = [inputs, 320, 256, 128, 64]
            pairs = itertools.pairwise(widths)
            assert count(net) == sum(conv(a, b) for a, b in pairs)
        for net in part.residuals:
            inputs = M + before + 32
            layers = conv(inputs, 224, 3), conv(224, 128, 3), conv(128, 32, 3)
            assert count(net) == sum(layers)


def test_contexts_have_the_branches_of_the_figure():
    for i, part in enumerate(made("s2lic").entropy.parts):
        C = 32 * i
        near = conv(C, C) + 9 * C + C
        gates = conv(C, C // 16) + conv(C // 16, 1) + conv(C, C // 8) + conv(C // 8, C)
        channels = 2 * conv(C, C, 3) + near + gates + conv(C, 64, 3)
        attention = conv(C, C) + 25 * C + C + conv(C, 2) + conv(C, 2 * C)
        inter = attention + conv(C, C, 5) + near + gates + conv(C, 32)
        wanted = [channels, inter] if i else []
        assert [count(r) for r in part.references] == [*wanted, conv(32, 64, 5)]
        heads = [m.head for m in part.modules() if hasattr(m, "reads")]
        assert heads == [32] * (i > 0)


def test_the_small_one_has_every_mechanism_below_8_million():
    published, small = (
        load_config(f"image/{name}").codec.options()
        for name in ("s2lic", "s2lic-small")
    )
    for section in ("transform", "entropy"):
        assert set(small[section]) == set(published[section])
        assert all(small[section].values())
    names = [
        [r["name"] for r in options["entropy"]["references"]]
        for options in (small, published)
    ]
    assert names[0] == names[1]
    assert count(made("s2lic-small")) < 8_000_000


def test_the_small_one_is_near_the_reading_it_is_made_from():
    """The reading counts 4.5 M and does not say the inner widths of contexts."""
    codec = made("s2lic-small", transform={"growth": 16, "dense": 64})
    model = codec.entropy
    hyper = count(model.h_a) + count(model.h_s) + count(model.prior_z)
    assert round(hyper / 1e6, 2) == 1.02
    residuals = sum(count(part.residuals) for part in model.parts)
    assert round(residuals / 1e6, 2) == 1.29
    # Ours has scales of eight rates, and the context that the model file lacks.
    ours = sum(p.numel() for n, p in codec.named_parameters() if "scale" in n)
    ours += sum(p.numel() for n, p in codec.named_parameters() if n.startswith("rates"))
    ours += sum(count(part.references[-1]) for part in model.parts)
    ours += sum(64 * 128 for _ in model.parts)
    assert abs(count(codec) - ours - 4.5e6) < 0.05 * 4.5e6
