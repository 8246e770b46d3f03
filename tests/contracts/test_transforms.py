# SPDX-License-Identifier: Apache-2.0
"""Every registered transform: exact sizes, and the reach that it states, measured.

A tile or a block is coded from its surroundings as far as a transform says that it
looks. A reach too small would make seams, one too large slow tiles: by gradients, a
result depends on exactly what is stated.
"""

from __future__ import annotations

import pytest
import torch
from tiny_parts import case_id, cases, shaken, tiny

from polycodec.codecs.transforms.base import (
    FeatureTransform,
    ImageTransform,
    SpeechTransform,
    Transform,
)
from polycodec.registry import find, options_of

M, KNOTS = 6, 3
LEVEL = 0.5
# How much more than measured a part may state, in positions of the finer grid, and why.
SLACK = {
    # Its analysis begins with a stride of 4, of which a reach in pixels cuts a part.
    "transform/residual": 15,
    "transform/conv": 15,
}
# Parts that do not have the channels of the others here, and why.
CHANNELS = {"transform/test-means": 1}  # it codes the mean of a frame, one number


def made(case) -> Transform:
    name, options = case
    channels = CHANNELS.get(name, M)
    if "knots" in options_of(name):
        options = {"knots": KNOTS, **options}
    return shaken(tiny(name, channels=channels, **options))


def kind_of(name: str) -> type:
    part = find(name)
    assert isinstance(part, type) and issubclass(part, Transform), name
    return part


# What makes features, no signals, is met in tests/codecs/test_feature.py.
ALL = [
    c for c in cases("transform/*") if not issubclass(kind_of(c[0]), FeatureTransform)
]
IMAGE = [case for case in ALL if issubclass(kind_of(case[0]), ImageTransform)]
SPEECH = [case for case in ALL if issubclass(kind_of(case[0]), SpeechTransform)]
every = pytest.mark.parametrize("case", ALL, ids=case_id)


def signal(part: Transform, batch: int, *positions: int) -> torch.Tensor:
    """A signal of ``positions`` latents along each axis."""
    generator = torch.Generator().manual_seed(2)
    channels = 3 if part.kind == "image" else 1
    size = [part.stride * n for n in positions]
    return 0.3 * torch.randn(batch, channels, *size, generator=generator)


def levels(batch: int) -> torch.Tensor:
    return torch.full((batch,), LEVEL)


def test_every_transform_is_of_a_kind():
    assert len(IMAGE) + len(SPEECH) == len(ALL)
    assert {"transform/residual", "transform/conv"} <= {n for n, _ in IMAGE}
    assert {"transform/spectral", "transform/seanet"} <= {n for n, _ in SPEECH}


def alike(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal but for rounding: another batch or thread count sums in another order.

    Norms of few channels magnify that, to 1e-5 in ten of them.
    """
    return bool((found - expected).abs().max() <= 1e-4 * expected.abs().max() + 1e-6)


@every
@torch.inference_mode()
def test_sizes_are_exact_and_items_independent(case):
    part = made(case)
    axes = 2 if part.kind == "image" else 1
    for positions in ((1,) * axes, (2, 3)[:axes], (7, 4)[:axes]):
        x = signal(part, 2, *positions)
        z = part.analyse(x, levels(2))
        assert z.shape == (2, part.channels, *positions)
        assert part.latent_size(*x.shape[2:]) == positions
        assert part.latent_size(*(n - 1 for n in x.shape[2:])) == positions
        x_hat = part.synthesise(z, levels(2))
        assert x_hat.shape == x.shape
        alone = part.analyse(x[1:], levels(1))
        assert alike(alone[0], z[1])
        alone = part.synthesise(z[1:], levels(1))
        assert alike(alone[0], x_hat[1])


@every
def test_every_parameter_learns(case):
    part = made(case).train()
    x = signal(part, 2, *((4, 4) if part.kind == "image" else (12,)))
    z = part.analyse(x, torch.tensor([0.3, 1.7]))
    loss = (part.synthesise(z, torch.tensor([0.3, 1.7])) - x).square().mean()
    loss.backward()
    for name, value in part.named_parameters():
        assert value.grad is not None and value.grad.isfinite().all(), name
        assert value.grad.abs().max() > 0, name


def looked_at(run, given: torch.Tensor, at: list[slice], axis: int) -> list[list[int]]:
    """First and last position of ``given`` that each of the results ``at`` uses.

    One item of a batch for each, so that one gradient answers for all.
    """
    x = given.expand(len(at), *given.shape[1:]).clone().requires_grad_()
    out = run(x, levels(len(at))).movedim(axis, 1)
    weights = torch.randn(out.shape[1:], generator=torch.Generator().manual_seed(3))
    # What came through thirty layers from the edge of the reach is tiny: large weights
    # keep its gradient above float32's smallest number.
    (1e25 * sum((out[i, p] * weights[p]).sum() for i, p in enumerate(at))).backward()
    used = (x.grad != 0).movedim(axis, 1).flatten(2).any(2)
    return [row.nonzero().flatten()[[0, -1]].tolist() for row in used]


def sides(part: Transform, reach: int, run: str, axis: int = 2) -> tuple[int, int]:
    """How far results look back and ahead, over one grid of tiles, or one frame.

    Analysis: in samples beyond those that a latent stands for. Synthesis: in latents
    beyond the one that a sample belongs to. ``reach``: latents that must suffice.
    """
    s = part.stride
    grid = part.grid // s if isinstance(part, ImageTransform) else 1
    first = -(-(reach + 1) // grid) * grid
    shape = [2, 2] if part.kind == "image" else [0]
    shape[axis - 2] = first + grid + reach + 1
    x, at = signal(part, 1, *shape), range(first, first + grid)
    if run == "analyse":
        found = looked_at(part.analyse, x, [slice(k, k + 1) for k in at], axis)
        pairs = zip(at, found, strict=True)
        beyond = [(s * k - low, high - s * k - s + 1) for k, (low, high) in pairs]
    else:
        z = part.analyse(x, levels(1)).detach()
        blocks = [slice(s * k, s * k + s) for k in at]
        found = looked_at(part.synthesise, z, blocks, axis)
        beyond = [(k - low, high - k) for k, (low, high) in zip(at, found, strict=True)]
    return max(b for b, _ in beyond), max(a for _, a in beyond)


def check_image_reach(part: ImageTransform, slack: int = 0) -> None:
    """AssertionError unless what the part states is what it does, on both axes."""
    pixels, latents = part.tiling.halo
    for axis in (2, 3):
        found = max(sides(part, -(-pixels // part.stride), "analyse", axis))
        assert found <= pixels <= found + slack, (found, pixels)
        assert max(sides(part, latents, "synthesise", axis)) == latents


@pytest.mark.parametrize("case", IMAGE, ids=case_id)
def test_images_look_as_far_as_stated(case):
    part = made(case)
    if part.reach() is None:
        pytest.fail("state here what a transform without a reach has to show")
    assert part.grid % part.stride == 0
    check_image_reach(part, SLACK.get(case[0], 0))


def check_contexts(part: SpeechTransform) -> None:
    """AssertionError unless each context is true, and no more than a frame too long."""
    hop = part.hop
    for run, context in zip(("analyse", "synthesise"), part.contexts(), strict=True):
        frames = max(context) if context else 40
        back, ahead = sides(part, frames + 1, run)
        if run == "analyse":
            back, ahead = -(-back // hop), -(-ahead // hop)
        if context is None:
            assert max(back, ahead) > 40, "it forgets: state its context"
        else:
            left, right = context
            assert back <= left <= back + 1, (run, back, left)
            assert ahead <= right <= max(ahead, 0) + 1, (run, ahead, right)


@pytest.mark.parametrize("case", SPEECH, ids=case_id)
def test_speech_looks_as_far_as_stated(case):
    check_contexts(made(case))


def test_what_is_stated_wrongly_is_found():
    class Near(find("transform/conv")):
        def reach(self):
            return super().reach()[0] - 1, super().reach()[1]

    class Far(find("transform/conv")):
        def reach(self):
            return super().reach()[0], super().reach()[1] + 1

    class Forgetful(find("transform/spectral")):
        def contexts(self):
            (left, right), synthesis = super().contexts()
            return (left, right - 1), synthesis

    for part in (Near, Far):
        with pytest.raises(AssertionError):
            check_image_reach(shaken(part(M, width=8, knots=KNOTS)), 15)
    part = shaken(Forgetful(M, widths=(16, 16), depths=(1, 1)))
    with pytest.raises(AssertionError):
        check_contexts(part)


def test_what_is_not_stated_is_named_when_it_is_built():
    class Unstated(ImageTransform):
        pass

    with pytest.raises(TypeError, match=r"Unstated.*\breach\b"):
        Unstated(3, 16)
