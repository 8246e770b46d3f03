# SPDX-License-Identifier: Apache-2.0
"""Does a decoder see what the encoder saw, whatever computes it, for every reference?

    python docs/checks/references.py PICTURES [--crops 24] [--only local,mlicv2]

    crops of pictures ── g_a of image/default ──► y ── a small sliced model of
                                  references, trained a little on y, frozen

Every reference of the registry by itself, and the lists of `test_references`. Columns
of the table:

    passes     after a change of the latents of pass k, for every k: how many parameters
               of passes up to k differ
    changed    how many of later ones do: above 0 where a reference reads latents
    others     how many of the parameters, means and table indexes, are others when
               computed by 1 to 3 threads, in batches of 8 and of 1, channels_last,
               or with oneDNN off
    orders     the same of shuffled orders of summation: inputs of layers with their
               weights, positions and channels of attention, channels of norms
    decoded    streams that do not decode to the encoder's latents
    off %      from the estimate, of the stream whose bytes are furthest from it
    excess %   the same of what is beyond 40 bytes

Exits with 1 where passes, others, orders or decoded are not 0, or excess is above 0.6.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from entropy import frozen, latents_of
from PIL import Image
from torch import Tensor

sys.path += [
    str(Path(__file__).parents[2] / "tests" / p) for p in (".", "entropy_models")
]

from test_references import CASES, MORE, SIZES, Tape, threads
from tiny_parts import shaken

from polycodec.entropy_models.coders import RangeDecoder, RangeEncoder, RateEstimator
from polycodec.entropy_models.exact.carrier import without_onednn
from polycodec.entropy_models.exact.convolution import ExactConv2d
from polycodec.entropy_models.exact.layer import freeze, observe
from polycodec.entropy_models.exact.linear import LinearAttention
from polycodec.entropy_models.exact.mean import PlaneMean
from polycodec.entropy_models.exact.norm import ChannelNorm
from polycodec.entropy_models.exact.positions import Positions
from polycodec.entropy_models.exact.window import WindowAttention
from polycodec.eval.text import Table, aligned
from polycodec.registry import build

SIDES = 112, 144  # of crops: 7 x 9 positions
QUALITY = 50.0
STEPS = 20
ORDERS = 3
SLICES = [32, 64, 96, 128]
WITHIN, BYTES = 0.006, 40  # of the estimate
Passes = list[tuple[Tensor, ...]]


def latents(folder: Path, count: int) -> Tensor:
    """y (count, M, 7, 9) of the middles of the first pictures of a folder."""
    codec, crops = frozen(), []
    for path in sorted(folder.iterdir())[:count]:
        with Image.open(path) as image:
            top, left = (image.height - SIDES[0]) // 2, (image.width - SIDES[1]) // 2
            box = left, top, left + SIDES[1], top + SIDES[0]
            crops.append(np.array(image.convert("RGB").crop(box)))
    x = torch.from_numpy(np.stack(crops)).movedim(-1, 1) / 255
    return latents_of(codec, x, codec.level_of(QUALITY)).clone()


def model_of(case: str, y: Tensor) -> torch.nn.Module:
    """A small model, every path shaken, trained a little on y, and frozen."""
    torch.manual_seed(0)
    options = {"references": CASES[case], **SIZES, **MORE.get(case, {})}
    options["slices"] = SLICES
    model = build("entropy/sliced", channels=y.shape[1], **options)
    model.initialise(y.std(dim=(0, 2, 3)))
    shaken(model).train()
    size = (len(y), *y.shape[2:])
    adam = torch.optim.Adam(model.parameters(), 0.003)
    for _ in range(STEPS):
        estimator = RateEstimator(len(y))
        model.code(estimator, y, size)
        penalty = model.penalty()
        loss = estimator.bits.mean() / y[0].numel() + (penalty or 0.0)
        adam.zero_grad()
        loss.backward()
        adam.step()
    model.eval().requires_grad_(False)
    observe(model, True)
    model.code(RateEstimator(len(y), noise=False), y, size)
    observe(model, False)
    model.update()
    assert all(one.holds for one in freeze(model))
    return model


def parameters(model: torch.nn.Module, y: Tensor, z: Tensor) -> Passes:
    """Means and indexes of every pass over y, side information z first."""
    tape = Tape(z)
    model.code(tape, y, (len(y), *y.shape[2:]))
    return tape.passes


def differing(ours: Passes, theirs: Passes) -> list[int]:
    """How many parameters of each pass are not the same."""
    return [
        sum(int((a != b).sum()) for a, b in zip(one, other, strict=True))
        for one, other in zip(ours, theirs, strict=True)
    ]


def causality(model: torch.nn.Module, y: Tensor, z: Tensor, base: Passes) -> list[int]:
    """Changed parameters up to the pass whose latents change, and after it."""
    found = [0, 0]
    starts = np.cumsum([0, *SLICES])
    halves = [Positions.checkerboard(*y.shape[2:], half).mask for half in (0, 1)]
    for k in range(2 * len(SLICES)):
        part = slice(starts[k // 2], starts[k // 2 + 1])
        other = y.clone()
        other[:, part] += 9.0 * halves[k % 2]
        changed = differing(base, parameters(model, other, z))
        found[0] += sum(changed[: k + 2])  # the first pass is z
        found[1] += sum(changed[k + 2 :])
    return found


def in_batches(size: int) -> Callable[..., Passes]:
    """Parameters computed so many crops at a time."""

    def compute(model: torch.nn.Module, y: Tensor, z: Tensor) -> Passes:
        pairs = zip(y.split(size), z.split(size), strict=True)
        parts = [parameters(model, *pair) for pair in pairs]
        return [
            tuple(map(torch.cat, zip(*one, strict=True)))
            for one in zip(*parts, strict=True)
        ]

    return compute


def others(model: torch.nn.Module, y: Tensor, z: Tensor, base: Passes) -> int:
    """Differences over all other ways to compute the parameters."""
    last = y.contiguous(memory_format=torch.channels_last)
    found = [parameters(model, last, z), in_batches(8)(model, y, z)]
    found.append(in_batches(1)(model, y, z))
    for way in (threads(1), threads(2), threads(3), without_onednn()):
        with way:
            found.append(parameters(model, y, z))
    return sum(sum(differing(base, one)) for one in found)


Order = Callable[..., Tensor]  # of so many numbers; ``of``: always the same for this
Replaced = tuple[type[torch.nn.Module], str, Callable[..., Any]]


def of_convolutions(order: Order) -> list[Replaced]:
    """Convolutions that sum their input channels in other orders."""
    snapped, laid_out = ExactConv2d._snapped, ExactConv2d.laid_out

    def inputs(self: ExactConv2d, x: Tensor) -> Tensor:
        x = snapped(self, x)
        return x if self.groups > 1 else x[:, order(self.in_channels, self)]

    def weights(self: ExactConv2d, *args, by_rows: bool = False):
        weight, bias = laid_out(self, *args, by_rows=by_rows)
        if self.groups > 1:
            return weight, bias
        at = order(self.in_channels, self)
        if not by_rows:
            return weight[:, at].contiguous(), bias
        taps = weight.unflatten(1, (-1, self.in_channels))
        return taps[:, :, at].flatten(1, 2), bias

    return [(ExactConv2d, "_snapped", inputs), (ExactConv2d, "laid_out", weights)]


def of_attention(order: Order) -> list[Replaced]:
    """Attention that sums over channels and keys in other orders."""
    linear, window = LinearAttention.forward, WindowAttention.forward

    def global_(self, q, k, v, hidden=None, turns=None):
        at = order(k.shape[-1])
        back = at.argsort()
        if turns is not None:
            of_q, of_k = turns
            turns = of_q, lambda w: of_k(w[..., back, :])[..., at, :]
        hidden = None if hidden is None else hidden[at]
        return linear(self, q, k[..., at], v[..., at], hidden, turns)

    def near(self, q, k, v, bias=0.0, hidden=None):
        at, of = order(k.shape[-2]), order(k.shape[-1])
        if isinstance(bias, Tensor):
            bias = bias[..., at]
        hidden = None if hidden is None else hidden[..., at]
        return window(
            self, q[..., of], k[..., at, :][..., of], v[..., at, :], bias, hidden
        )

    return [(LinearAttention, "forward", global_), (WindowAttention, "forward", near)]


def of_means(order: Order) -> list[Replaced]:
    """Norms and means that sum channels and positions in other orders."""
    norm, mean = ChannelNorm.forward, PlaneMean.forward

    def levelled(self: ChannelNorm, x: Tensor) -> Tensor:
        at, weight, bias = order(x.shape[1]), self.weight, self.bias
        try:
            for name, values in (("weight", weight), ("bias", bias)):
                setattr(self, name, torch.nn.Parameter(values[at], requires_grad=False))
            return norm(self, x[:, at])[:, at.argsort()]
        finally:
            self.weight, self.bias = weight, bias

    def averaged(self: PlaneMean, x: Tensor) -> Tensor:
        at = order(x.shape[2] * x.shape[3])
        return mean(self, x.flatten(2)[..., at].view(x.shape))

    return [(ChannelNorm, "forward", levelled), (PlaneMean, "forward", averaged)]


@contextlib.contextmanager
def shuffled(generator: torch.Generator) -> Iterator[None]:
    """Sum in other orders while this lasts, another one for each sum."""

    def order(count: int, of: object = None) -> Tensor:
        seed = int(generator.initial_seed()) + (0 if of is None else id(of) % 2**20)
        own = torch.Generator().manual_seed(seed)
        return torch.randperm(count, generator=generator if of is None else own)

    with contextlib.ExitStack() as stack:
        for replaced in (of_convolutions, of_attention, of_means):
            for kind, name, ours in replaced(order):
                stack.enter_context(patch.object(kind, name, ours))
        yield


def orders(model: torch.nn.Module, y: Tensor, z: Tensor, base: Passes) -> int:
    """Differences over shuffled orders of summation."""
    found = 0
    for seed in range(ORDERS):
        with shuffled(torch.Generator().manual_seed(seed)):
            found += sum(differing(base, parameters(model, y, z)))
    return found


def coded(model: torch.nn.Module, y: Tensor) -> tuple[int, int, float, float]:
    """Bytes, streams that decode otherwise, the largest misses of the estimate."""
    size = (len(y), *y.shape[2:])
    encoder = RangeEncoder(len(y), estimate=True)
    y_hat = model.code(encoder, y, size)
    data = encoder.finish()
    decoder = RangeDecoder(data)
    back = model.code(decoder, None, size)
    decoder.finish()
    wrong = int((back != y_hat).flatten(1).any(1).sum())
    assert encoder.estimated_bits is not None
    real = torch.tensor([len(stream) for stream in data], dtype=torch.float64)
    wanted = torch.tensor([float(bits) / 8 for bits in encoder.estimated_bits])
    off = (real - wanted).abs()
    excess = (off - BYTES).clamp_min(0) / wanted
    return int(real.sum()), wrong, float((off / wanted).max()), float(excess.max())


@torch.inference_mode()
def row(model: torch.nn.Module, y: Tensor) -> tuple[list[str], bool]:
    """Cells of a model, and whether they are as they should be."""
    z = torch.round(model.side(y))
    base = parameters(model, y, z)
    early, late = causality(model, y, z, base)
    ways, sums = others(model, y, z, base), orders(model, y, z, base)
    total, wrong, off, excess = coded(model, y)
    count = sum(part.numel() for one in base[1:] for part in one)
    misses = (f"{100 * share:.2f}" for share in (off, excess))
    cells = [early, late, count, ways, sums, total, wrong, *misses]
    return list(map(str, cells)), early + ways + sums + wrong == 0 and excess <= WITHIN


def main() -> None:
    """Check every case, print the table, exit with 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--crops", type=int, default=24)
    parser.add_argument("--only", default=",".join(CASES), help="names, with commas")
    given = parser.parse_args()
    y = latents(given.pictures, given.crops)
    lines, failed = [], []
    for case in given.only.split(","):
        cells, fine = row(model_of(case, y), y)
        lines.append([case, *cells])
        failed += [] if fine else [case]
        print(*lines[-1], flush=True)
    header = ["references", "passes", "changed", "parameters", "others", "orders"]
    header += ["bytes", "decoded", "off %", "excess %"]
    print(*aligned(Table(header, lines)), sep="\n")
    print(
        f"{len(y)} crops, {len(lines)} lists of references, failed: {failed or 'none'}"
    )
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
