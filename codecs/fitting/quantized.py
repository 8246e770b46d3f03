# SPDX-License-Identifier: Apache-2.0
"""Weights of a network as whole numbers of steps, while they still learn.

    w ── / step, rounded ──► code c ── coder ──► c ── · step ──► ŵ
                     step = 2^(k / 16), k whole and learned, one for each tensor

All passes through one `EntropyModel.code`: what training counts, noise in place of the
rounding, and what is written have the same densities. One step serves all embeddings.
Zhang et al. 2024 (arXiv 2402.18152), section 3.4; the authors send steps of 32 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from polycodec.codecs.transforms.network import Network
from polycodec.entropy_models.base import Coder, EntropyModel
from polycodec.entropy_models.coders import RateEstimator, straight_through

OCTAVE = 16  # BITSTREAM: steps of k in a factor of 2
LARGEST = 40 * OCTAVE  # BITSTREAM: of |k|
FINE = 255  # steps over a tensor's range, at first
MOST = 32000  # of codes


def steps_of(k: Tensor) -> Tensor:
    """Steps of whole numbers k."""
    return torch.exp2(k.clamp(-LARGEST, LARGEST) / OCTAVE)


def groups(network: Network) -> int:
    """How many steps a network has: one a tensor, one for all embeddings."""
    return len(network.sent()) + (network.embedding_size is not None)


class Quantized(nn.Module):
    """The steps of a network's tensors, and codes of its weights in them.

    ``keep``: share of the weights, biases apart, that are not pruned.
    """

    def __init__(
        self, network: Network, embeddings: Tensor | None, keep: float
    ) -> None:
        super().__init__()
        self.names = list(network.sent())
        tensors = list(network.sent().values())
        ranges = [t.detach() for t in tensors]
        ranges += [] if embeddings is None else [embeddings.detach()]
        # A tensor of one value has no range: the value itself then.
        spans = torch.stack(
            [torch.maximum(t.max() - t.min(), t.abs().max()) for t in ranges]
        )
        self.k = nn.Parameter(OCTAVE * torch.log2(spans.clamp_min(1e-6) / FINE))
        self.masks = [torch.ones_like(t) for t in ranges[: len(tensors)]]
        if keep < 1:
            sizes = torch.cat([t.abs().flatten() for t in ranges if t.ndim > 1])
            least = sizes.kthvalue(max(1, round((1 - keep) * len(sizes)))).values
            for t, mask in zip(ranges, self.masks, strict=False):
                if t.ndim > 1:
                    mask.copy_(t.abs() > least)

    @property
    def whole(self) -> Tensor:
        """k (G,), rounded; the gradient passes."""
        return straight_through(torch.round(self.k.detach()), self.k)

    def codes(self, network: Network) -> Tensor:
        """Codes of all weights, (1, 1, P) float, not rounded, pruned ones 0."""
        steps = steps_of(self.whole)
        tensors = zip(self.pruned(network), steps, strict=False)
        return torch.cat([(t / step).flatten() for t, step in tensors])[None, None]

    def pruned(self, network: Network) -> list[Tensor]:
        """The weights that are sent, pruned ones 0."""
        sent = network.sent()
        return [sent[n] * m for n, m in zip(self.names, self.masks, strict=True)]

    def coarsened(
        self,
        network: Network,
        embeddings: Tensor | None,
        small: Callable[[Tensor, list[Tensor]], bool],
    ) -> tuple[Tensor, list[Tensor]]:
        """k (G,) and codes of each tensor, whole, (n,), the finest that are ``small``.

        All steps grow alike, by quarters of an octave, twelve octaves at most.
        """
        fine = self.k.detach().clone()
        low, high = 0, 48
        if small(*(found := self.coded(network, embeddings, fine))):
            return found
        while high - low > 1:
            middle = (low + high) // 2
            wider = fine + middle * OCTAVE / 4
            fits = small(*self.coded(network, embeddings, wider))
            low, high = (low, middle) if fits else (middle, high)
        return self.coded(network, embeddings, fine + high * OCTAVE / 4)

    @torch.no_grad()
    def coded(
        self, network: Network, embeddings: Tensor | None, k: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """k (G,) as they are taken and codes of each tensor, whole, (n,)."""
        tensors = self.pruned(network) + ([] if embeddings is None else [embeddings])
        largest = torch.stack([t.abs().max() for t in tensors]).clamp_min(1e-6)
        least = torch.ceil(OCTAVE * torch.log2(largest / MOST))  # codes have 16 bits
        self.k.copy_(torch.maximum(k, least))
        steps = steps_of(self.whole)
        each = zip(tensors, steps, strict=True)
        return self.whole.detach().clone(), [
            torch.round(t / step).flatten() for t, step in each
        ]

    @property
    def step_of_embeddings(self) -> Tensor:
        """The step of all embeddings."""
        return steps_of(self.whole)[-1]

    def embedded(self, embeddings: Tensor) -> Tensor:
        """Codes (1, 1, B d h w) of embeddings (B, d, h, w), not rounded."""
        return (embeddings / self.step_of_embeddings).reshape(1, 1, -1)

    def state(self) -> dict[str, Tensor]:
        """k, and the masks."""
        masks = zip(self.names, self.masks, strict=True)
        return {"k": self.k.detach()} | {f"mask.{n}": m for n, m in masks}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        with torch.no_grad():
            self.k.copy_(state["k"])
            for name, mask in zip(self.names, self.masks, strict=True):
                mask.copy_(state[f"mask.{name}"])


def weights_of(network: Network, codes: Tensor, k: Tensor) -> dict[str, Tensor]:
    """Tensors by name of codes (P,), whole, and k (G,)."""
    steps, found, at = steps_of(k), {}, 0
    for step, (name, like) in zip(steps, network.sent().items(), strict=False):
        part = codes[at : at + like.numel()]
        found[name] = (part * step).view(like.shape)
        at += like.numel()
    return found


def counted(
    entropy: EntropyModel, coder: Coder, values: Tensor, lengths: list[int]
) -> Tensor:
    """Hand codes to a coder under one normal density a tensor, as training counts."""
    plain = torch.zeros(1, 1, len(lengths), device=values.device)
    return entropy.code(coder, values, (1, *lengths), z=plain)


def estimated(
    entropy: EntropyModel,
    values: Tensor,
    lengths: list[int],
    *,
    noise: bool | torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Codes as a decoder has them, and their bits, differentiable."""
    coder = RateEstimator(1, noise=noise)
    return counted(entropy, coder, values, lengths), coder.bits.sum()


def decibel(mse: float) -> float:
    """PSNR of a mean squared error of samples in [0, 1]."""
    return -10 * math.log10(max(mse, 1e-10))
