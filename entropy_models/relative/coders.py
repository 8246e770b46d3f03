# SPDX-License-Identifier: Apache-2.0
"""One procedure, three coders, where the message is a sample and not a rounded value.

    coder.code(posterior, prior, shape)      posterior None: decode

    SampleEstimator   adds KL(posterior ‖ prior), returns a sample of the posterior that
                      is differentiable in its means and scales            (training)
    SampleEncoder     finds a candidate that is as likely as one of the posterior's,
                      and writes its number: `bits` flat bits for each block
    SampleDecoder     reads the numbers, draws these candidates of the prior

Of a block of d dimensions both sides can draw 2^bits candidates z_j of the prior p. The
encoder takes

    argmin_j  T_j p(z_j) / q(z_j),       T_0 < T_1 < …  arrivals of a Poisson process

which is a sample of q as long as KL(q ‖ p) stays below `bits` by a bit or more: with
too few candidates it is drawn towards p. T_j = e^-G_j of the falling Gumbels G_j of A*
coding (Maddison 2016; Flamich, Markou, Hernández-Lobato 2022, arXiv 2201.12857). Small
numbers are favoured, and q = p gives number 0. With G_j that do not fall it is minimal
random coding (Havasi, Peharz, Hernández-Lobato 2019, arXiv 1810.00440).

Only numbers are sent, and a decoder draws in integers: what it has is the encoder's
sample, bit for bit (`generator`). What an encoder weighs is float, and its business.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from polycodec.entropy_models import streams
from polycodec.entropy_models.relative import generator
from polycodec.entropy_models.relative.blocks import Normal, NormalPrior
from polycodec.errors import BitstreamError, InputError

_CHUNK = 1 << 18  # candidates times dimensions that are weighed together
_SCORES = 1 << 22  # items times candidates


def divergence(shift: Tensor, log: Tensor) -> Tensor:
    """KL from a standard Gaussian, in bits, differentiable.

    Of means ``shift`` and logarithms ``log`` of deviations, of one shape.
    """
    return (0.5 * (shift.square() + (2 * log).exp() - 1) - log) / math.log(2)


@dataclass
class Posterior:
    """Independent Gaussians fitted to signals: means and scales, (B, ..., N)."""

    means: Tensor
    scales: Tensor

    @classmethod
    def of(cls, prior: Normal, shift: Tensor, log: Tensor) -> Posterior:
        """Of means and logarithms of deviations in units of the prior."""
        means, scales = prior.floats
        return cls(means + scales * shift, scales * log.exp())

    def numbers(self, prior: NormalPrior) -> Tensor:
        """Of each block the candidate that is chosen, (..., K)."""
        rows = Posterior(self.means.flatten(0, -2), self.scales.flatten(0, -2))
        columns = [choose(rows, prior, k) for k in range(len(prior.blocks))]
        return torch.stack(columns, dim=1).view(*self.means.shape[:-1], -1)

    def check(self, prior: NormalPrior, shape: tuple[int, ...]) -> None:
        """InputError unless this is of ``shape`` and can be coded under the prior."""
        found = tuple(self.means.shape)
        if found != shape or found[-1:] != prior.means.shape:
            raise InputError(
                f"a posterior of {found} for samples of {shape} under a prior of "
                f"{prior.means.shape}; expected (batch, ..., dimensions) everywhere"
            )
        if not (self.scales > 0).all() or not self.means.isfinite().all():
            raise InputError(
                "a posterior has scales that are not above 0, or no numbers"
            )

    def part(self, dimensions: np.ndarray) -> Posterior:
        """Some dimensions of it."""
        at = torch.from_numpy(dimensions.astype(np.int64)).to(self.means.device)
        return Posterior(self.means[:, at], self.scales[:, at])

    def bits(self, prior: Normal) -> Tensor:
        """KL(posterior ‖ prior) of each dimension, in bits, differentiable."""
        means, scales = (v.to(self.means) for v in prior.floats)
        return divergence((self.means - means) / scales, (self.scales / scales).log())


@dataclass
class Chosen:
    """Samples that were chosen before: numbers (B, ..., K) of their blocks."""

    chosen: Tensor

    def numbers(self, prior: NormalPrior) -> Tensor:
        """The numbers."""
        return self.chosen

    def check(self, prior: NormalPrior, shape: tuple[int, ...]) -> None:
        """InputError for numbers that blocks of the prior have not."""
        found, wanted = tuple(self.chosen.shape), (*shape[:-1], len(prior.blocks))
        low, high = (int(v) for v in self.chosen.aminmax())
        if found != wanted or low < 0 or high >> prior.blocks.bits:
            raise InputError(
                f"numbers {low} to {high} of {found}; expected {wanted}, of "
                f"{prior.blocks.bits} bits"
            )


class SampleCoder(abc.ABC):
    """What the three coders share: shapes are (B, ..., N), N as the prior's."""

    @abc.abstractmethod
    def numbers(
        self,
        posterior: Posterior | Chosen | None,
        prior: NormalPrior,
        shape: Sequence[int],
    ) -> Tensor:
        """The numbers (B, ..., K) of samples of ``shape``; None when decoding."""

    def code(
        self, posterior: Posterior | None, prior: NormalPrior, shape: Sequence[int]
    ) -> Tensor:
        """Handle the samples of ``shape``; None when decoding.

        Returns what a decoder will have, float32.
        """
        return drawn(self.numbers(posterior, prior, shape), prior)


class SampleEstimator:
    """Counts bits; `bits` is (B,), differentiable, as is the sample."""

    def __init__(self, batch: int) -> None:
        self.bits = torch.zeros(batch)

    def code(
        self, posterior: Posterior | None, prior: Normal, shape: Sequence[int]
    ) -> Tensor:
        """Add the KL; return means + scales * noise, as `SampleCoder.code` says."""
        assert posterior is not None, "there is nothing to estimate"
        self.bits = self.bits.to(posterior.means) + posterior.bits(prior).flatten(
            1
        ).sum(1)
        noise = torch.randn_like(posterior.means)
        return posterior.means + posterior.scales * noise


class SampleEncoder(SampleCoder):
    """Chooses candidates and keeps their numbers; `finish` gives the bytes of each."""

    def __init__(self, batch: int) -> None:
        self._numbers: list[tuple[Tensor, int]] = []  # (B, n) and bits of a number
        self._hash = 0
        self.batch = batch

    def numbers(
        self,
        posterior: Posterior | Chosen | None,
        prior: NormalPrior,
        shape: Sequence[int],
    ) -> Tensor:
        """Choose a candidate for every block; see `SampleCoder.numbers`."""
        assert posterior is not None, "there is nothing to encode"
        posterior.check(prior, tuple(shape))
        numbers = posterior.numbers(prior)
        self._numbers.append((numbers.flatten(1), prior.blocks.bits))
        self._hash = prior.checksum(self._hash)
        return numbers

    @property
    def estimated_bits(self) -> list[float]:
        """Bits of the numbers of each item: they are known before."""
        one = sum(numbers.shape[1] * bits for numbers, bits in self._numbers)
        return [float(one)] * self.batch

    def finish(self) -> list[bytes]:
        """The hash of the priors and the numbers, of each item; not sealed yet."""
        head = self._hash.to_bytes(streams.HASH_BYTES, "little")
        return [
            head + b"".join(_pack(numbers[b], bits) for numbers, bits in self._numbers)
            for b in range(self.batch)
        ]


class SampleDecoder(SampleCoder):
    """Draws the candidates whose numbers were written; `finish` checks what is left."""

    def __init__(
        self, data: Sequence[bytes], *, context: streams.Contexts = b""
    ) -> None:
        if any(len(item) < streams.HASH_BYTES for item in data):
            raise BitstreamError("a stream of samples has no hash; the file is cut")
        each = streams.contexts_of(context, len(data))
        self._expected = [
            int.from_bytes(item[: streams.HASH_BYTES], "little")
            ^ streams.seal(item, own)
            for item, own in zip(data, each, strict=True)
        ]
        self._data = [item[streams.HASH_BYTES :] for item in data]
        self._at = self._hash = 0

    def numbers(
        self,
        posterior: Posterior | Chosen | None,
        prior: NormalPrior,
        shape: Sequence[int],
    ) -> Tensor:
        """Read the numbers of every block; see `SampleCoder.numbers`."""
        rows, each = math.prod(shape[1:-1]), len(prior.blocks)
        count, bits = rows * each, prior.blocks.bits
        size = -(-count * bits // 8)
        parts = [item[self._at : self._at + size] for item in self._data]
        self._at += size
        self._hash = prior.checksum(self._hash)
        if any(len(part) != size for part in parts):
            raise BitstreamError(
                f"a stream of samples ends too early; expected {size} bytes of "
                f"{count} blocks, found {min(map(len, parts))}"
            )
        found = np.stack([_unpack(part, count, bits) for part in parts])
        return torch.from_numpy(found).view(len(parts), *shape[1:-1], each)

    def finish(self) -> None:
        """Check ends and hashes; BitstreamError."""
        for item, expected in zip(self._data, self._expected, strict=True):
            if len(item) != self._at:
                raise BitstreamError(
                    f"a stream of samples has {len(item)} bytes; expected {self._at}"
                )
            if expected != self._hash:
                raise BitstreamError(
                    "samples were written under another prior, or are damaged; "
                    f"expected hash {expected:08x}, found {self._hash:08x}"
                )


@torch.no_grad()
def choose(posterior: Posterior, prior: NormalPrior, k: int) -> Tensor:
    """The candidate of block ``k`` for each item, (B,) int64; `code` of one block.

    ``posterior``: of all dimensions. Items of a batch share the candidates.
    """
    at = prior.blocks.dimensions(k)
    own = posterior.part(at)
    p_means, p_scales = (v[torch.from_numpy(at.astype(np.int64))] for v in prior.floats)
    p_means, p_scales = (v.to(own.means.device) for v in (p_means, p_scales))
    means, scales = own.means.double(), own.scales.double()
    # log q(z) - log p(z) of z = p_means + p_scales n is a polynomial of n.
    ratio = p_scales / scales
    shift = (means - p_means) / scales
    second = 0.5 * (1 - ratio.square())  # (B, d)
    first = shift * ratio
    count = 1 << prior.blocks.bits
    rest = {"block": k, "stream": prior.stream, "seed": prior.seed}
    arrivals = (-torch.log(generator.uniforms(count, **rest))).cumsum(0).log()
    step = max(1, min(_CHUNK // len(at), _SCORES // len(means)))
    best = torch.full((len(means),), -math.inf, dtype=torch.float64)
    number = torch.zeros(len(means), dtype=torch.int64)
    for start in range(0, count, step):
        candidates = torch.arange(start, min(start + step, count))
        n = prior.draw(k, candidates.to(means.device)).double() / generator.UNIT
        scores = first @ n.T + second @ n.square().T  # (B, candidates)
        scores = scores.cpu() - arrivals[candidates]
        value, place = scores.max(dim=1)
        better = value > best
        best = torch.where(better, value, best)
        number = torch.where(better, candidates[place], number)
    return number


def drawn(numbers: Tensor, prior: NormalPrior) -> Tensor:
    """The samples (..., N) float32 of numbers (..., K)."""
    rows = numbers.flatten(0, -2)
    out = torch.empty((len(rows), len(prior.means)), dtype=torch.float32)
    for k in range(len(prior.blocks)):
        at = torch.from_numpy(prior.blocks.dimensions(k).astype(np.int64))
        out[:, at] = prior.placed(k, prior.draw(k, rows[:, k]))
    return out.view(*numbers.shape[:-1], -1)


def _pack(numbers: Tensor, bits: int) -> bytes:
    """Numbers of so many bits, the highest first, without gaps.  # BITSTREAM"""
    values = numbers.cpu().numpy()[:, None] >> np.arange(bits - 1, -1, -1)
    return np.packbits((values & 1).astype(np.uint8)).tobytes()


def _unpack(data: bytes, count: int, bits: int) -> np.ndarray:
    """The numbers, (count,) int64; BitstreamError for bits that are not 0 behind."""
    values = np.unpackbits(np.frombuffer(data, np.uint8))
    if values[count * bits :].any():
        raise BitstreamError("bits behind the last number of a sample are not 0")
    places = 1 << np.arange(bits - 1, -1, -1, dtype=np.int64)
    return values[: count * bits].reshape(count, bits).astype(np.int64) @ places
