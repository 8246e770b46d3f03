# SPDX-License-Identifier: Apache-2.0
"""Search at encoding: latents of this very signal, by descent on its own cost.

    y = g_a(x), z = h_a(y)                            the start; weights stay fixed
    each step   ŷ, bits = code(Annealer, y, z)        rounded at random, see `annealing`
                Adam on  bits a sample + λ 255² MSE(g_s(ŷ), x)
    the end     both are coded plainly, and the cheaper one is kept, by real bytes

The decoder is unchanged. Campos et al. 2019, "Content adaptive optimization for neural
image compression" (arXiv 1906.01223); Yang, Bamler, Mandt 2020 (arXiv 2006.04240).

A step needs only h_s, contexts and g_s, and their gradients to latents: there frozen
layers compute as while training (`exact.layer.approximately`), in bfloat16 where the
processor multiplies it faster. What is coded in the end is computed exactly.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from polycodec.codecs.refined import Cost, Found, Refined, Watch
from polycodec.entropy_models.annealing import Annealer, Annealing, Rounded
from polycodec.entropy_models.coders import RateEstimator
from polycodec.entropy_models.exact.layer import approximately

if TYPE_CHECKING:
    from polycodec.codecs.families.latent import LatentCodec

# Measured on crops of training photographs: Adam's rate in quantization steps, falling
# as a cosine to a share of it; tries of rounded latents on the way; what the last three
# of them must have gained together, after half of the steps, for the search to go on.
RATE, LAST, TRIES, GAIN = 0.05, 0.05, 10, 5e-4
IDLE = 0.3  # Adam's eps: latents that weigh less, in bits a step, move less
ANNEALING = Annealing()
# What torch 2.6 and later know of processors that have instructions for bfloat16.
BFLOAT16 = "_is_amx_tile_supported", "_is_avx512_bf16_supported"


@torch.inference_mode(False)
@torch.enable_grad()
def refined(
    codec: LatentCodec,
    x: Tensor,
    y: Tensor,
    level: float,
    steps: int,
    *,
    watch: Watch | None = None,
    annealing: Annealing = ANNEALING,
) -> Refined:
    """Search for better latents of x (1, C, *S) than y (1, M, *s), by ``steps``.

    x needs no padding; ``watch`` is told of progress. Returns the better of before and
    after by real bytes and the distance of what they decode to.
    """
    search = _Search(codec, x.clone(), level)
    before = search.coded([y], thrifty=True)
    generator = torch.Generator(x.device).manual_seed(0)
    leaves = [y.detach().clone().requires_grad_()]
    with torch.no_grad():
        side = codec.entropy.side(leaves[0])
    if side is not None:
        leaves.append(side.clone().requires_grad_())
    optimizer = torch.optim.Adam(leaves, eps=IDLE)
    every = max(1, steps // TRIES)
    best, kept, tries = before, [y], [before.total]
    for step in range(steps):
        progress = step / steps
        share = LAST + (1 - LAST) * (1 + math.cos(math.pi * progress)) / 2
        optimizer.param_groups[0]["lr"] = RATE * share
        counts = Annealer(1, progress, generator, annealing)
        with _fast(x.device):
            cost, _ = search.estimated(leaves, counts)
        grads = torch.autograd.grad(cost, leaves)
        for leaf, grad in zip(leaves, grads, strict=True):
            leaf.grad = grad
        optimizer.step()
        if (step + 1) % every and step + 1 < steps:
            continue
        with torch.no_grad(), _fast(x.device):
            _, tried = search.estimated(leaves, Rounded(1))
        if tried.total < best.total:
            best, kept = tried, [leaf.detach().clone() for leaf in leaves]
        if watch:
            watch(Found(step + 1, steps, best))
        tries.append(tried.total)
        late = 2 * (step + 1) > steps and len(tries) > 4
        if late and tries[-4] - min(tries[-3:]) < GAIN * tries[-1]:
            break
    taken = step + 1 if steps else 0
    after = before if best is before else search.coded(kept, thrifty=False)
    if after.total >= before.total:
        return Refined(y, None, True, before, before, taken)
    side = kept[1] if len(kept) > 1 else None
    return Refined(kept[0], side, False, before, after, taken)


class _Search:
    """What stays the same over a search: the signal and its level."""

    def __init__(self, codec: LatentCodec, x: Tensor, level: float) -> None:
        self.codec, self.x, self.level = codec, x, level
        self.samples = x[0, 0].numel()
        each = torch.full((len(x),), float(level), device=x.device)
        self.lmbda = codec.lmbda_of(each).item()

    def estimated(
        self, leaves: Sequence[Tensor], counts: RateEstimator
    ) -> tuple[Tensor, Cost]:
        """The cost of latents, and side information: in bits, differentiable; told."""
        y, *side = leaves
        y_hat = self.codec.code(counts, y, self.level, side=side[0] if side else None)
        error, bits = self.error(y_hat), counts.bits.sum()
        cost = bits + self.samples * self.lmbda * 255**2 * error
        return cost, Cost(bits.item() / 8, error.item(), self.lmbda, self.samples)

    @torch.no_grad()
    def coded(self, leaves: Sequence[Tensor], *, thrifty: bool) -> Cost:
        """The cost of really coded latents."""
        y, *side = leaves
        given = side[0] if side else None
        coded = self.codec.write(y, self.level, side=given, thrifty=thrifty)
        error = self.error(coded.codes).item()
        return Cost(len(coded.data[0]), error, self.lmbda, self.samples)

    def error(self, y_hat: Tensor) -> Tensor:
        """Mean squared error of what latents decode to."""
        codec, signal = self.codec, self.codec.signal
        z_hat = codec.dequantize(y_hat, self.level)
        x_hat = signal.restored(codec.synthesise(z_hat, self.level)).float()
        x_hat = signal.cut(x_hat, self.x.shape[2:])
        return (x_hat.clamp(signal.low, signal.high) - self.x).square().mean()


@contextlib.contextmanager
def _fast(device: torch.device) -> Iterator[None]:
    """Compute as fast as this machine can, near what is computed exactly."""
    kind = device.type
    with approximately(), torch.autocast(kind, torch.bfloat16, enabled=_halved(kind)):
        yield


def _halved(device: str) -> bool:
    """Whether a device multiplies bfloat16 faster than float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    asked = (getattr(torch.cpu, name, None) for name in BFLOAT16)
    return any(ask() for ask in asked if ask)
