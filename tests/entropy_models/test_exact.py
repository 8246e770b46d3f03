# SPDX-License-Identifier: Apache-2.0
"""Exact layers: the same bits from every way of computing, and bounds that hold.

The truth is an int64 convolution: integers have no order of summation.
"""

from __future__ import annotations

import contextlib

import pytest
import torch
import torch.nn.functional as F

from polycodec.entropy_models.exact import carrier as carrier_module
from polycodec.entropy_models.exact.carrier import conv_by_matmul
from polycodec.entropy_models.exact.convolution import ExactConv2d, exact_conv
from polycodec.entropy_models.exact.layer import freeze, observe
from polycodec.entropy_models.exact.mean import PlaneMean
from polycodec.entropy_models.exact.positions import Positions, scatter
from polycodec.errors import ModelError


def layer_of(
    kernel: int, *, channels=(24, 16), stride=1, groups=1, bits=(12, 12), seed=0
):
    """A frozen layer with random weights, calibrated on random inputs."""
    torch.manual_seed(seed)
    widths = {"input_bits": bits[0], "weight_bits": bits[1]}
    layer = ExactConv2d(*channels, kernel, stride=stride, groups=groups, **widths)
    with torch.no_grad():
        layer.weight.mul_(torch.logspace(-3, 1, channels[1]).view(-1, 1, 1, 1))
        layer.bias.copy_(torch.linspace(-30, 30, channels[1]))
        observe(layer, True)
        layer(inputs(channels[0]))
        observe(layer, False)
    freeze(layer)
    return layer.requires_grad_(False)


def inputs(channels: int, batch: int = 1, seed: int = 5) -> torch.Tensor:
    """Values on every scale, some beyond what calibration saw."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, channels, 9, 11, generator=generator)
    return x * torch.logspace(-2, 2, channels).view(-1, 1, 1)


def power(exponent: torch.Tensor) -> torch.Tensor:
    """2^exponent as (C, 1, 1) float64."""
    ones = torch.ones(exponent.shape, dtype=torch.float64)
    return torch.ldexp(ones, exponent.int()).view(-1, 1, 1)


def integer_truth(layer: ExactConv2d, x: torch.Tensor) -> torch.Tensor:
    """The layer by an int64 sum over its stored integers, as float32."""
    kept = layer.integers()
    step = power(kept["input_exp"]).float()
    top = 2 ** (layer.input_bits - 1) - 1
    i = torch.floor(x / step + 0.5).clamp(-top, top).long()
    k, s, p = layer.kernel_size[0], layer.stride[0], layer.padding[0]
    i = F.pad(i, (p, p, p, p))
    windows = i.unfold(2, k, s).unfold(3, k, s)  # (B, I, h, w, k, k)
    windows = windows.unflatten(1, (layer.groups, -1))
    weight = kept["weight_int"].long().unflatten(0, (layer.groups, -1))
    sums = torch.einsum("bgchwij,gocij->bgohw", windows, weight).flatten(1, 2)
    sums = sums + kept["bias_int"].long().view(-1, 1, 1)
    return (sums.double() * power(kept["weight_exp"])).float()


@contextlib.contextmanager
def threads(count: int):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


LAYERS = {
    "1x1": {"kernel": 1},
    "3x3": {"kernel": 3},
    "5x5": {"kernel": 5},
    "stride 2": {"kernel": 3, "stride": 2},
    "float32": {"kernel": 3, "bits": (9, 7)},
    "groups": {"kernel": 3, "groups": 8},
    "depthwise": {"kernel": 5, "groups": 24, "channels": (24, 24)},
    "depthwise float32": {
        "kernel": 3,
        "groups": 24,
        "channels": (24, 24),
        "bits": (10, 8),
    },
}


@pytest.fixture(params=LAYERS.values(), ids=LAYERS)
def layer(request):
    return layer_of(**request.param)


@torch.inference_mode()
def test_it_is_the_integer_convolution(layer):
    x = inputs(24)
    assert torch.equal(layer(x), integer_truth(layer, x))


@torch.inference_mode()
@pytest.mark.parametrize("batch", [1, 8, 16])
def test_every_way_of_computing_gives_the_same_bits(layer, batch):
    x = inputs(24, batch)
    expected = integer_truth(layer, x)
    ways = {
        "plain": contextlib.nullcontext,
        "oneDNN off": carrier_module.without_onednn,
        "1 thread": lambda: threads(1),
        "2 threads": lambda: threads(2),
        "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    }
    for name, way in ways.items():
        with way():
            assert torch.equal(layer(x), expected), name
            last = x.contiguous(memory_format=torch.channels_last)
            assert torch.equal(layer(last), expected), f"{name}, channels_last"
    alone = torch.cat([layer(one) for one in x.split(1)])
    assert torch.equal(alone, expected)


@torch.inference_mode()
def test_matmul_and_float64_agree(layer):
    x = layer._snapped(inputs(24, 2))
    expected = exact_conv(x, layer).float()
    weight, bias = layer.weight.double(), layer.bias.double()
    stride, padding = layer.stride[0], layer.padding[0]
    product = conv_by_matmul(x.double(), weight, bias, stride, padding)
    plain = F.conv2d(x.double(), weight, bias, stride, padding, 1, layer.groups)
    assert torch.equal(product.float(), expected)
    assert torch.equal(plain.float(), expected)


@torch.inference_mode()
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_some_positions_are_as_all_positions(kernel):
    layer, x = layer_of(kernel), inputs(24, 2)
    mask = torch.rand(9, 11, generator=torch.Generator().manual_seed(1)) < 0.4
    where = Positions(mask, mask.flatten().nonzero().squeeze(1))
    assert torch.equal(layer.at(x, where).squeeze(2), layer(x)[:, :, mask])
    grouped = layer_of(kernel, groups=8)
    assert torch.equal(grouped.at(x, where).squeeze(2), grouped(x)[:, :, mask])
    nowhere = Positions(torch.zeros_like(mask), torch.zeros(0, dtype=torch.int64))
    assert layer.at(x, nowhere).shape == (2, 16, 1, 0)


@torch.inference_mode()
def test_float32_is_left_where_the_library_rounds(monkeypatch):
    """Without oneDNN a batch of 16 goes to NNPACK, whose Winograd is not exact.

    Measured with torch 2.11: 286,371 of 294,912 sums differed. Wherever this holds
    the layer must have noticed; where it does not, it may stay in float32.
    """
    layer = layer_of(3, bits=(9, 7))
    assert layer.certificate().carrier == "float32"
    with carrier_module.without_onednn():
        whole = carrier_module.float32_is_whole()
        carrier = layer.carrier(torch.device("cpu"))
    assert carrier == (torch.float32 if whole else torch.float64)
    plain = F.conv2d

    def rounding(*args):
        return plain(*args).bfloat16().float()

    carrier_module._float32_is_whole.cache_clear()
    monkeypatch.setattr(carrier_module.F, "conv2d", rounding)
    assert layer.carrier(torch.device("cpu")) == torch.float64
    monkeypatch.undo()
    carrier_module._float32_is_whole.cache_clear()


@torch.inference_mode()
def test_a_bound_is_reached_and_never_passed(layer):
    """Inputs at their limits with the signs of the weights: the worst case itself."""
    kept, top = layer.integers(), 2 ** (layer.input_bits - 1) - 1
    step = power(kept["input_exp"]).float()
    certificate = layer.certificate("it")
    grids = power(kept["weight_exp"])
    k, first = layer.kernel_size[0], 2 * layer.stride[0] - layer.padding[0]
    field = slice(first, first + k)  # what the output at (2, 2) sees
    largest = 0.0
    for o in range(layer.out_channels):
        sign = kept["weight_int"][o].sign().float()
        sign = sign if kept["bias_int"][o] >= 0 else -sign
        inner = layer.in_channels // layer.groups
        begin = o // (layer.out_channels // layer.groups) * inner
        own = slice(begin, begin + inner)
        x = torch.zeros(1, layer.in_channels, 9, 9)
        x[0, own, field, field] = 8 * top * step[own] * sign  # far outside: clamped
        sums = layer(x)[0, o].double().abs() / grids[o]
        largest = max(largest, float(sums[2, 2]))
        assert float(sums.max()) <= certificate.bound * (1 + 2.0**-23)
    # The output is float32: beyond 2^24 it is the rounded sum.
    assert largest == pytest.approx(certificate.bound, rel=2.0**-23)
    assert certificate.holds and certificate.layer == "it"


def test_carriers_follow_the_bits():
    assert layer_of(3, bits=(9, 7)).certificate().carrier == "float32"
    assert layer_of(3, bits=(16, 15)).certificate().carrier == "float64"


def test_what_cannot_be_exact_is_named():
    model = torch.nn.Sequential(ExactConv2d(64, 4, 3, input_bits=40, weight_bits=15))
    model[0].peak.fill_(1e4)
    with pytest.raises(ModelError, match=r"\['0'\].*2\^53"):
        freeze(model)


def test_integers_without_a_certificate_are_not_computed_with():
    layer = layer_of(1)
    layer.load_integers({**layer.integers(), "bias_int": torch.full((16,), 2**54)})
    with pytest.raises(ModelError, match=r"2\^53"):
        layer(inputs(24))


def test_a_dead_channel_with_a_bias_still_freezes():
    layer = ExactConv2d(3, 2, 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([22.0, 0.0]))
    freeze(layer)
    assert layer.certificate().holds
    out = layer(torch.rand(1, 3, 2, 2))
    assert out[0, :, 0, 0].tolist() == [22.0, 0.0]


def test_damaged_integers_are_refused_and_new_ones_get_a_new_carrier():
    layer = layer_of(3)
    good = layer.integers()
    assert layer.carrier(torch.device("cpu")) == torch.float64
    for key, value in (("weight_int", 40000), ("input_exp", 65), ("weight_exp", -65)):
        bad = {k: v.long() for k, v in good.items()}
        bad[key].view(-1)[0] = value
        with pytest.raises(ModelError, match="damaged"):
            layer.load_integers(bad)
    layer.load_integers({**good, "weight_int": good["weight_int"].clamp(-1, 1),
                         "bias_int": good["bias_int"] * 0})  # fmt: skip
    assert layer.certificate().carrier == "float32"
    carrier = layer.carrier(torch.device("cpu"))
    assert carrier == torch.float32 or not carrier_module.float32_is_whole()


@pytest.mark.parametrize(
    "key, shape", [("widths", 3), ("bias_int", 1), ("weight_exp", 1), ("input_exp", 1)]
)
def test_integers_of_another_shape_are_refused(key, shape):
    layer = layer_of(3)
    whole = torch.full((shape,), 14 if key == "widths" else 0)
    with pytest.raises(ModelError, match="damaged"):
        layer.load_integers({**layer.integers(), key: whole})


def test_the_least_exponent_of_16_bits_is_refused():
    """Its absolute value does not fit 16 bits: the step became 0, results NaN."""
    layer = PlaneMean()
    layer.freeze()
    least = torch.full((1,), -(2**15), dtype=torch.int16)
    with pytest.raises(ModelError, match="damaged"):
        layer.load_integers({**layer.integers(), "input_exp": least})


def test_freezing_costs_little():
    """12 bits for inputs and weights keep a layer within 0.5 % of its float self."""
    torch.manual_seed(0)
    layer, x = ExactConv2d(24, 16, 3), inputs(24)
    with torch.no_grad():
        observe(layer, True)
        before = layer(x)
        observe(layer, False)
        freeze(layer)
        error = (layer(x) - before).abs().max() / before.abs().max()
    assert 0 < error < 0.005


def test_a_compiled_step_writes_at_positions():
    """Training compiled by inductor: its decompositions, without its code."""
    where = Positions.checkerboard(4, 6, 1)
    x, new = torch.rand(2, 3, 4, 6), torch.rand(2, 3, 1, len(where))
    kernel = torch.rand(5, 3, 3, 3).contiguous(memory_format=torch.channels_last)

    def loss(x: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        return F.conv2d(scatter(x, where, new), kernel).square().sum()

    compiled = torch.compile(loss, backend="aot_eager_decomp_partition")
    pairs = [[t.clone().requires_grad_() for t in (x, new)] for _ in range(2)]
    for f, pair in zip((loss, compiled), pairs, strict=True):
        f(*pair).backward()
    for eager, other in zip(*pairs, strict=True):
        torch.testing.assert_close(other.grad, eager.grad)
