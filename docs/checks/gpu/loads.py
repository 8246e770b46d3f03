# SPDX-License-Identifier: Apache-2.0
"""Loads for speed.py, made on the device.

"0.85" .. "5.0"     64 Gaussian tables, scales 0.11 to 64, an index for every symbol;
                    so many bits on average
"shared"            one table of 256 symbols, about 5 bits
"mixture of 3"      three Gaussians with fractional means for every symbol
"categorical of 16" logits of 16 values for every symbol
"""

from __future__ import annotations

import numpy as np

from polycodec.cuda import BatchCategorical, BatchMixture, ScaleSet, TableSet
from polycodec.cuda.device.driver import Device


def gaussian_tables() -> tuple[TableSet, np.ndarray]:
    """64 zero-mean Gaussians of 12 bits and their scales."""
    scales = np.exp(np.linspace(np.log(0.11), np.log(64), 64))
    pmfs, tails, minimum = [], [], []
    for scale in scales:
        half = int(min(127, max(1, np.ceil(5 * scale))))
        fine = (np.arange(-half * 64 - 32, half * 64 + 32) + 0.5) / 64
        density = np.exp(-0.5 * (fine / scale) ** 2) / (scale * np.sqrt(2 * np.pi))
        pmfs.append(density.reshape(-1, 64).sum(1) / 64)
        tails.append(max(1 - pmfs[-1].sum(), 1e-6))
        minimum.append(-half)
    return TableSet.from_pmfs(pmfs, minimum, 12, tails), scales


def entropies(tables: TableSet) -> np.ndarray:
    """Bits a symbol of each table costs on average, (tables,)."""
    share = tables.freqs / (1 << tables.precision)
    return np.add.reduceat(share * tables.ideal, tables.first[:-1])


class Loads:
    """Symbols and indexes made on the device."""

    def __init__(self, device: Device) -> None:
        self.torch, self.device = device.torch, device.device
        self.generator = self.torch.Generator(self.device).manual_seed(1)
        self.gaussian, self.scales = gaussian_tables()
        pmf = np.exp(-0.5 * ((np.arange(256) - 128) / 7.8) ** 2) + 1e-5
        self.book = TableSet.from_pmfs([pmf], [0], 12)

    def normal(self, shape: tuple[int, int]):
        return self.torch.randn(shape, generator=self.generator, device=self.device)

    def make(self, name: str, batch: int, n: int):
        """Return symbols (B, n) int32, indexes (B, n) uint8 and their tables."""
        torch, shape = self.torch, (batch, n)
        if name == "shared":
            owner = np.repeat(np.arange(256, dtype=np.int32), self.book.freqs[1:])
            slots = torch.from_numpy(owner).to(self.device)
            drawn = torch.randint(
                4096, shape, generator=self.generator, device=self.device
            )
            zeros = torch.zeros(shape, dtype=torch.uint8, device=self.device)
            return slots[drawn], zeros, self.book
        cost = entropies(self.gaussian)
        centre = int(np.argmin(np.abs(cost - float(name))))
        index = (self.normal(shape) * 3 + centre).round_().clamp_(0, 63).to(torch.uint8)
        scales = torch.from_numpy(self.scales.astype(np.float32)).to(self.device)
        values = self.normal(shape).mul_(scales[index.int()]).round_()
        return values.to(torch.int32), index, self.gaussian

    def prior(self, name: str, batch: int, n: int):
        """Return symbols (B, n) int32 and their prior."""
        kind, _, size = name.split()
        make = self._mixtures if kind == "mixture" else self._categoricals
        return make(batch, int(size), n)

    def _mixtures(self, batch: int, size: int, n: int):
        torch, shape = self.torch, (batch, size * n)
        scales = ScaleSet.from_scales(self.scales)
        # Components near each other, as a network's are, around any place.
        spread = self.normal(shape).mul_(96).view(batch, size, n)
        place = self.normal((batch, n)).mul_(2000).unsqueeze(1)
        means = (place + spread).round_().to(torch.int32)
        index = (self.normal(shape) * 6 + 24).round_().clamp_(0, 63).to(torch.uint8)
        index = index.view(batch, size, n)
        weights = torch.full_like(means, 256 // size, dtype=torch.int16)
        weights[:, 0] += 256 % size
        own = torch.randint(
            size, (batch, 1, n), generator=self.generator, device=self.device
        )
        sigma = torch.from_numpy(self.scales.astype(np.float32)).to(self.device)
        sigma = sigma[index.gather(1, own).squeeze(1).int()]
        values = means.gather(1, own).squeeze(1) / 64
        values = values.add_(self.normal((batch, n)).mul_(sigma)).round_()
        return values.to(torch.int32), BatchMixture(scales, means, index, weights)

    def _categoricals(self, batch: int, size: int, n: int):
        torch, shape = self.torch, (batch, n * size)
        logits = self.normal(shape).mul_(64).round_().to(torch.int16)
        logits = logits.view(batch, n, size)
        # The largest of logits with Gumbel noise is a draw from their distribution.
        uniform = torch.rand(logits.shape, generator=self.generator, device=self.device)
        noise = uniform.clamp_(1e-9, 1 - 1e-6).log_().neg_().log_().neg_()
        symbols = noise.add_(logits, alpha=float(np.log(2)) / 32).argmax(dim=2)
        return symbols.to(torch.int32), BatchCategorical(logits)
