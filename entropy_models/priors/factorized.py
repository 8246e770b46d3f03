# SPDX-License-Identifier: Apache-2.0
"""A learned density per channel, with no assumption about its form.

    c(v) = sigmoid(net(v))     a small monotone network per channel
    p(v) = c(v + ½) - c(v - ½)

The cumulative is monotone because every matrix passes through softplus and every
gate adds at most its slope back: h ← h + tanh(a)·tanh(h).

Ballé, Minnen, Singh, Hwang, Johnston 2018 (arXiv 1802.01436), appendix 6.1. The
medians are fixed at zero: the transform before it has a bias and moves itself, so
no quantile loss is needed; `freeze_tables` reads the range off the density.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polycodec.cuda import TableSet
from polycodec.entropy_models.base import Shape, TablePrior
from polycodec.entropy_models.priors.scales import LIKELIHOOD_FLOOR
from polycodec.entropy_models.priors.tables import tables_of_pmfs

INIT_SCALE = 10.0
# Deviation of a density before training: a logistic of scale INIT_SCALE.
FRESH_DEVIATION = INIT_SCALE * math.pi / math.sqrt(3)


class FactorizedPrior(nn.Module):
    """The density of (B, C, h, w) integers, independent per channel."""

    def __init__(self, channels: int, hidden: tuple[int, ...] = (3, 3, 3)) -> None:
        super().__init__()
        self.channels = channels
        sizes = (1, *hidden, 1)
        scale = INIT_SCALE ** (1 / (len(sizes) - 1))
        self.matrices, self.biases, self.gates = (nn.ParameterList() for _ in range(3))
        for fan_in, fan_out in itertools.pairwise(sizes):
            start = math.log(math.expm1(1 / scale / fan_out))
            self.matrices.append(torch.full((channels, fan_out, fan_in), start))
            self.biases.append(torch.rand(channels, fan_out, 1) - 0.5)
        for width in hidden:
            self.gates.append(torch.zeros(channels, width, 1))

    def logits(self, v: Tensor, own: slice = slice(None)) -> Tensor:
        """Logits of the cumulative at ``v``: (C, 1, n) -> (C, 1, n).

        own: the densities that v are of, all unless told.
        """
        for i, (matrix, bias) in enumerate(
            zip(self.matrices, self.biases, strict=True)
        ):
            v = torch.baddbmm(bias[own], F.softplus(matrix[own]), v)
            if i < len(self.gates):
                v = v + torch.tanh(self.gates[i][own]) * torch.tanh(v)
        return v

    def bits(self, v: Tensor, own: slice = slice(None)) -> Tensor:
        """Bits of values ``v``, (B, C, h, w) float32 -> same shape; by ``own``."""
        flat = v.transpose(0, 1).reshape(v.shape[1], 1, -1)
        with torch.autocast(v.device.type, enabled=False):
            low, high = self.logits(flat - 0.5, own), self.logits(flat + 0.5, own)
            # The sign keeps the difference of sigmoids away from 1 - 1.
            sign = -torch.sign(low + high).detach()
            p = (torch.sigmoid(sign * high) - torch.sigmoid(sign * low)).abs()
            bits = -torch.log2(p.clamp_min(LIKELIHOOD_FLOOR))
        shape = (v.shape[1], v.shape[0], *v.shape[2:])
        return bits.reshape(shape).transpose(0, 1)

    @torch.no_grad()
    def freeze_tables(self, reach: int = 255) -> TableSet:
        """Integer tables of the density on -reach … reach, one per channel."""
        v = torch.arange(-reach, reach + 1, dtype=torch.float32)
        shape = (1, self.channels, 1, v.numel())
        device = self.biases[0].device
        bits = self.bits(v.to(device).view(1, 1, 1, -1).expand(shape))
        pmf = torch.exp2(-bits.double())[0, :, 0].cpu().numpy()
        return tables_of_pmfs(pmf, -reach)


class Factorized(TablePrior):
    """One learned distribution for each channel of a (B, C, h, w) tensor.

    level: (B,) int64 from 0, where the model has so many sets of C densities.
    """

    hashed = False  # indexes follow from shape and rate alone
    thrifty = False

    def __init__(
        self,
        model: FactorizedPrior,
        tables: TableSet | None = None,
        level: Tensor | None = None,
    ) -> None:
        self.model, self.tables, self.level = model, tables, level

    @property
    def device(self) -> torch.device:
        return self.model.biases[0].device

    def indexes(self, shape: Shape) -> Tensor:
        """The density's number for every element of ``shape`` (B, C, h, w), int32."""
        index = torch.arange(shape[1], dtype=torch.int32, device=self.device)[None]
        if self.level is not None:
            index = index + shape[1] * self.level.to(index)[:, None]
        return index.view(*index.shape, *[1] * (len(shape) - 2)).expand(shape)

    def bits(self, v: Tensor) -> Tensor:
        if self.level is None:
            return self.model.bits(v.float())
        out, width = torch.empty_like(v, dtype=torch.float32), v.shape[1]
        for k in self.level.unique().tolist():
            rows, own = self.level == k, slice(width * k, width * (k + 1))
            out[rows] = self.model.bits(v[rows].float(), own)
        return out
