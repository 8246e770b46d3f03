# SPDX-License-Identifier: Apache-2.0
"""Exact blocks beside convolutions: equal bits however they are computed.

    attention (linear, in windows)   norm   bilinear reads   rotary positions   tables

The truth of sums is int64. Each block trains as an ordinary layer and must then agree
with itself on grids.
"""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from polycodec.entropy_models.exact import carrier, softmax
from polycodec.entropy_models.exact.bilinear import PLACES, BilinearRead
from polycodec.entropy_models.exact.functions import FunctionTable, power_table
from polycodec.entropy_models.exact.layer import exact_layers, freeze, observe
from polycodec.entropy_models.exact.linear import FINE, MOST_POSITIONS, LinearAttention
from polycodec.entropy_models.exact.norm import ChannelNorm
from polycodec.entropy_models.exact.rotary import Rotary, cosine_table
from polycodec.entropy_models.exact.window import WindowAttention
from polycodec.errors import ModelError

H, W = 6, 8


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def places() -> tuple[Tensor, Tensor]:
    at = torch.arange(H * W)
    return at // W, at % W


def linear_inputs(b: int) -> tuple:
    q, k, v = (2 * draw(b, 2, 8, H * W, seed=s) for s in range(3))
    return q, k, v, (torch.arange(H * W) % 3 == 0)


def window_inputs(b: int) -> tuple:
    q, k, v = (2 * draw(b, 5, 2, 9, 8, seed=s) for s in range(3))
    bias = draw(2, 9, 9, seed=4)
    hidden = torch.rand(1, 5, 1, 1, 9, generator=torch.Generator().manual_seed(1)) < 0.5
    return q, k, v, bias, hidden


def read_inputs(b: int) -> tuple:
    rows, columns = (draw(b, 20, seed=s) * 4 + 3 for s in (7, 8))
    return draw(b, 5, H, W), rows, columns


# What each is made of, and its inputs for a batch: the first axis of all that have it.
BLOCKS = {
    "linear": (LinearAttention, linear_inputs),
    "window": (lambda: WindowAttention(8), window_inputs),
    "norm": (lambda: ChannelNorm(12), lambda b: (5 * draw(b, 12, H, W),)),
    "read": (BilinearRead, read_inputs),
    "rotary": (lambda: Rotary(8), lambda b: (draw(b, 2, H * W, 8), *places())),
    "tanh": (lambda: FunctionTable(torch.tanh), lambda b: (3 * draw(b, 4, H, W),)),
}
every_block = pytest.mark.parametrize("name", BLOCKS)


def fresh(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    block = BLOCKS[name][0]()
    if isinstance(block, ChannelNorm):
        with torch.no_grad():
            block.weight.copy_(1 + 0.3 * draw(12, seed=5))
            block.bias.copy_(draw(12, seed=6))
    return block


def frozen(name: str) -> torch.nn.Module:
    block = fresh(name)
    observe(block, True)
    block(*BLOCKS[name][1](2))
    observe(block, False)
    (certificate,) = freeze(block)
    assert certificate.holds and certificate.bound > 0
    return block.requires_grad_(False)


@every_block
def test_on_grids_it_is_nearly_what_was_trained(name):
    inputs = BLOCKS[name][1](3)
    with torch.no_grad():
        wanted, found = fresh(name)(*inputs), frozen(name)(*inputs)
    assert found.dtype == torch.float32 and found.shape == wanted.shape
    error = (found - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
    # Positions of reads are rounded to 1/16, and this map is noise.
    assert 0 < float(error) < (0.05 if name == "read" else 0.02)


@contextlib.contextmanager
def threads(count: int):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@every_block
@torch.inference_mode()
def test_every_way_of_computing_gives_the_same_bits(name):
    block, inputs = frozen(name), BLOCKS[name][1](8)
    wanted = block(*inputs)
    for way in (threads(1), threads(2), carrier.without_onednn()):
        with way:
            assert torch.equal(block(*inputs), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(block(*inputs), wanted)
    single = [
        block(*(x[b : b + 1] if x.dim() > 1 and len(x) == 8 else x for x in inputs))
        for b in range(8)
    ]
    assert torch.equal(torch.cat(single), wanted)
    last = [
        x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
        for x in inputs
    ]
    assert torch.equal(block(*last), wanted)
    strided = [x.mT.contiguous().mT if x.dim() > 2 else x for x in inputs]
    assert torch.equal(block(*strided), wanted)


@torch.inference_mode()
def test_the_order_of_summation_does_not_matter():
    generator = torch.Generator().manual_seed(3)
    linear, window, norm = (frozen(name) for name in ("linear", "window", "norm"))
    q, k, v, hidden = linear_inputs(2)
    wq, wk, wv, bias, whidden = window_inputs(2)
    x = 5 * draw(2, 12, H, W)
    wanted = linear(q, k, v, hidden), window(wq, wk, wv, bias, whidden), norm(x)
    for _ in range(50):
        at = torch.randperm(H * W, generator=generator)
        assert torch.equal(linear(q, k[..., at], v[..., at], hidden[at]), wanted[0])
        at = torch.randperm(9, generator=generator)
        moved = wk[..., at, :], wv[..., at, :], bias[..., at], whidden[..., at]
        assert torch.equal(window(wq, *moved), wanted[1])
        at = torch.randperm(12, generator=generator)
        other = frozen("norm")
        other.weight.copy_(norm.weight[at])
        other.bias.copy_(norm.bias[at])
        assert torch.equal(other(x[:, at]), wanted[2][:, at])


def whole(block, i: int, x: Tensor) -> np.ndarray:
    """Input i in its own steps, int64."""
    step = float(block.input_step[i])
    return torch.floor(x / step + 0.5).clamp(-block.top(i), block.top(i)).long().numpy()


def powers(score: np.ndarray, hidden: np.ndarray | None, axis: int) -> np.ndarray:
    """Weights of whole scores in 1/2^20 bit."""
    if hidden is not None:
        score = np.where(hidden, -(1 << 60), score)
    below = score.max(axis, keepdims=True) - score >> 15
    found = power_table()[np.minimum(below, len(power_table()) - 1)]
    return found if hidden is None else np.where(hidden, 0, found)


@torch.inference_mode()
def test_linear_attention_is_its_formula_in_integers():
    block, (q, k, v, hidden) = frozen("linear"), linear_inputs(2)
    found = block(q, k, v, hidden)
    q, k, v = (whole(block, i, x) for i, x in enumerate((q, k, v)))
    unit = (float(block.input_step[i]) * 2**20 for i in (0, 1))
    q, k = (x * int(u) for x, u in zip((q, k), unit, strict=True))
    weight = powers(k, hidden.numpy(), 3)
    sums = np.einsum("bhdm,bhem->bhde", weight, v)
    a = np.floor(sums / weight.sum(3, keepdims=True) * FINE + 0.5).astype(np.int64)
    weight = powers(q, None, 2)
    sums = np.einsum("bhde,bhdn->bhen", a, weight)
    out = sums / weight.sum(2, keepdims=True)
    out = (out * (float(block.input_step[2]) / FINE)).astype(np.float32)
    np.testing.assert_array_equal(found.numpy(), out)


@torch.inference_mode()
def test_window_attention_is_its_formula_in_integers():
    block, (q, k, v, bias, hidden) = frozen("window"), window_inputs(2)
    found = block(q, k, v, bias, hidden)
    unit = float(block.input_step[0] * block.input_step[1]) * 2.0**-2 * 2**20
    q, k, v = (whole(block, i, x) for i, x in enumerate((q, k, v)))
    score = q @ k.swapaxes(-1, -2) * int(unit)
    score = score + np.floor(bias.numpy() * 1024 + 0.5).astype(np.int64) * 1024
    weight = powers(score, np.broadcast_to(hidden.numpy(), score.shape), -1)
    out = (weight @ v) / np.maximum(weight.sum(-1, keepdims=True), 1)
    out = (out * float(block.input_step[2])).astype(np.float32)
    np.testing.assert_array_equal(found.numpy(), out)


@torch.inference_mode()
def test_a_norm_is_its_formula_in_integers():
    block, x = frozen("norm"), 5 * draw(2, 12, H, W)
    i, c = whole(block, 0, x), block.channels
    total = i.sum(1, keepdims=True)
    spread = c * (i * i).sum(1, keepdims=True) - total**2
    e = 2.0**-17 * c**2 / float(block.input_step[0]) ** 2
    out = (c * i - total) / np.sqrt(spread + e)
    weight, bias = (p.double().numpy().reshape(-1, 1, 1) for p in block.parameters())
    np.testing.assert_array_equal(
        block(x).numpy(), (out * weight + bias).astype(np.float32)
    )


@torch.inference_mode()
def test_reads_are_sums_of_sixteenths_and_stop_at_the_edge():
    block, (x, rows, columns) = frozen("read"), read_inputs(2)
    found = block(x, rows, columns).double().numpy()
    i, step = whole(block, 0, x), float(block.input_step[0])
    for b in range(2):
        for n in range(20):
            r, c = (
                math.floor(min(max(float(at[b, n]), 0), size - 1) * PLACES + 0.5)
                for at, size in ((rows, H), (columns, W))
            )
            out = 0
            for dr, u in ((0, PLACES - r % PLACES), (1, r % PLACES)):
                for dc, v in ((0, PLACES - c % PLACES), (1, c % PLACES)):
                    at = min(r // PLACES + dr, H - 1), min(c // PLACES + dc, W - 1)
                    out = out + u * v * i[b, :, at[0], at[1]]
            np.testing.assert_array_equal(found[b, :, n], out * step / PLACES**2)


@pytest.mark.parametrize("name", ["linear", "window"])
def test_where_all_is_hidden_nothing_is_seen(name):
    for block in (fresh(name), frozen(name)):
        *inputs, hidden = BLOCKS[name][1](2)
        inputs[0].requires_grad_(not block.frozen)
        out = block(*inputs, torch.ones_like(hidden))
        assert not out.any() and not out.isnan().any()
        if out.requires_grad:
            out.sum().backward()
            assert not inputs[0].grad.isnan().any()


def test_a_hidden_key_is_never_seen():
    for block in (fresh("linear"), frozen("linear")):
        q, k, v, hidden = linear_inputs(2)
        wanted = block(q, k, v, hidden)
        k[..., hidden], v[..., hidden] = 1e3, -1e3
        # Beyond what calibration saw: other keys must keep their grids all the same.
        assert torch.equal(block(q, k, v, hidden), wanted)


@every_block
def test_stored_integers_give_the_same_layer(name):
    block, inputs = frozen(name), BLOCKS[name][1](2)
    again = fresh(name)
    again.load_integers(block.integers())
    with torch.no_grad():
        assert again.frozen and torch.equal(again(*inputs), block(*inputs))
    for key, values in block.integers().items():
        damaged = {**block.integers(), key: torch.full_like(values, 30000)[..., :1]}
        with pytest.raises(ModelError):
            fresh(name).load_integers(damaged)


def test_a_layer_that_takes_over_other_integers_is_certified_again():
    norm = ChannelNorm(4096)
    norm.observing = True
    norm(torch.randn(1, 4096, 2))
    norm.freeze()
    wider = {**norm.integers(), "widths": torch.tensor([24])}
    with pytest.raises(ModelError, match="may sum to"):
        norm.load_integers(wider)


@every_block
def test_it_can_be_trained_and_searched(name):
    for block in (fresh(name), frozen(name)):
        inputs = BLOCKS[name][1](2)
        with torch.no_grad():
            wanted = block(*inputs)
        leaves = [x for x in inputs if x.is_floating_point()]
        leaves = leaves[: 3 if name in ("linear", "window", "read") else 1]
        for leaf in leaves:
            leaf.requires_grad_(True)
        out = block(*inputs)
        assert torch.equal(out, wanted)
        out.square().sum().backward()
        for leaf in leaves:
            assert leaf.grad.isfinite().all() and leaf.grad.any()


def test_cosines_are_rounded_cosines():
    angle = 2 * np.pi * np.arange(4096) / 4096
    np.testing.assert_array_equal(cosine_table(), np.rint(4096 * np.cos(angle)))


@torch.inference_mode()
def test_turning_keeps_lengths_and_depends_on_differences_only():
    block = frozen("rotary")
    x = draw(1, 1, H * W, 8)
    rows, columns = places()
    turned = block(x, rows, columns)
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-3)
    same = x[:, :, :1].expand_as(x)
    near, far = block(same, rows, columns), block(same, rows + 1000, columns + 77)
    assert torch.allclose(near @ near.mT, far @ far.mT, atol=0.02)


def test_softmax_of_a_table_is_softmax():
    score = 4 * draw(7, 30).double()
    weight = softmax.weights(score)
    assert torch.equal(weight, weight.round()) and float(weight.max()) == 2**18
    share = weight / weight.sum(-1, keepdim=True)
    assert float((share - softmax.shares(score)).abs().max()) < 0.01


def test_too_many_positions_are_refused():
    block = frozen("linear")
    k = torch.zeros(1).expand(1, 1, 1, MOST_POSITIONS + 1)
    with torch.no_grad(), pytest.raises(ModelError, match="smaller tiles"):
        block(k[..., :1], k, k)


def test_what_float64_cannot_hold_is_refused():
    block = ChannelNorm(1 << 15, input_bits=24)
    with pytest.raises(ModelError, match=r"at most 2\^53"):
        freeze(block)


def test_all_blocks_are_found_in_a_model():
    model = torch.nn.ModuleDict({name: fresh(name) for name in BLOCKS})
    assert set(exact_layers(model)) == set(BLOCKS)
