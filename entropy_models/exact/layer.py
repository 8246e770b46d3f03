# SPDX-License-Identifier: Apache-2.0
"""Layers whose result is the same bits on every machine: what all of them promise.

    train        an ordinary layer on floats
    observe      remembers the largest inputs of calibration
    freeze       weights and inputs go on dyadic grids;  certificate: why sums are exact
    integers     what is stored with the weights;        load_integers: the reverse

    floats that carry integers:   x = i · 2^-e  (|i| < 2^(a-1)),   w = k · 2^(e-s)
    then                           Σ w·x = 2^-s · Σ k·i  exactly,
    whatever the order of summation, if   Σ |k|·2^(a-1) + |b| <= 2^24   (float32)
                                                         or <= 2^53   (float64).

Everything between decoded integers and the next table index goes through such layers.
Each snaps its own input, so a bound needs no knowledge of the layer before it.

Method: Ballé, Johnston, Minnen, "Integer networks for data compression with
latent-variable models" (ICLR 2019), with float carriers instead of int kernels.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from polycodec.entropy_models.exact.carrier import float32_is_whole
from polycodec.errors import ModelError

FLOAT32_LIMIT = 2**24
FLOAT64_LIMIT = 2**53
_APPROXIMATE: ContextVar[bool] = ContextVar("approximate", default=False)
PEAK_FLOOR = 2.0**-6  # inputs never seen larger than this count as this large


@dataclass(frozen=True)
class Certificate:
    """Why a layer is exact: the largest possible sum against its carrier's limit."""

    layer: str
    bound: float
    carrier: str
    limit: float
    weight_bits: int
    input_bits: int

    @property
    def holds(self) -> bool:
        """Whether no partial sum can leave the carrier's exact integers."""
        return self.bound <= self.limit


class ExactLayer(nn.Module, abc.ABC):
    """Base of exact layers. ``observing``: it records the largest inputs."""

    observing: bool = False
    # Of the stored integers those that may be approximated before they are stored.
    coarse: ClassVar[tuple[str, ...]] = ()
    _carrier: torch.dtype | None = None  # of the certificate; None: not asked yet

    @property
    @abc.abstractmethod
    def frozen(self) -> bool:
        """Whether this layer computes on its grids."""

    @abc.abstractmethod
    def freeze(self) -> None:
        """Fix the grids of input, weight and bias from the observed inputs."""

    @abc.abstractmethod
    def integers(self) -> dict[str, Tensor]:
        """The frozen layer as integer tensors, by the names they are stored under."""

    @abc.abstractmethod
    def load_integers(self, integers: dict[str, Tensor]) -> None:
        """Take over stored integers; the layer is frozen afterwards.

        Raises ModelError for integers outside their widths.
        """

    @classmethod
    def regridded(
        cls, integers: dict[str, Tensor], grids: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return another layer's `coarse` integers in units of ``grids``.

        What weights made from others start from; float64, the same everywhere.
        """
        return {key: integers[key] for key in cls.coarse}

    @abc.abstractmethod
    def certificate(self, name: str = "") -> Certificate:
        """Bound every partial sum of every output of the frozen layer."""

    def carrier(self, device: torch.device) -> torch.dtype:
        """Choose float32 only where it is certified and the backend keeps it whole.

        Raises ModelError when no carrier holds the layer's sums.
        """
        if self._carrier is None:
            certificate = self.certificate()
            if not certificate.holds:
                raise ModelError(
                    f"an exact layer may sum to {certificate.bound:.3g}; expected at "
                    "most 2^53; its weights file is damaged or was not made by an "
                    "export"
                )
            self._carrier = getattr(torch, certificate.carrier)
        if device.type != "cpu":
            return torch.float64
        if self._carrier == torch.float32 and not float32_is_whole():
            return torch.float64
        return self._carrier


@contextlib.contextmanager
def approximately() -> Iterator[None]:
    """Let frozen convolutions of this thread compute in floats, as while training.

    For searches that take thousands of steps and code their result exactly in the end:
    float64 costs several times as much, and bfloat16 a fraction.
    """
    token = _APPROXIMATE.set(True)
    try:
        yield
    finally:
        _APPROXIMATE.reset(token)


def approximate() -> bool:
    """Whether this thread computes `approximately`."""
    return _APPROXIMATE.get()


def power_of_two(exponent: Tensor) -> Tensor:
    """2^exponent, float64, exactly."""
    ones = torch.ones(exponent.shape, dtype=torch.float64, device=exponent.device)
    return torch.ldexp(ones, exponent.to(torch.int32))


def input_exponent(peak: Tensor, top: int | Tensor) -> Tensor:
    """Exponents int16 of the steps by which ``top`` of them reach ``peak``."""
    reach = peak.clamp_min(PEAK_FLOOR).double() / top
    return torch.ceil(torch.log2(reach)).to(torch.int16)


def exact_layers(model: nn.Module) -> dict[str, ExactLayer]:
    """All exact layers of a model by name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, ExactLayer)}


def observe(model: nn.Module, on: bool) -> None:
    """Start or stop recording the largest inputs of every exact layer."""
    for layer in exact_layers(model).values():
        layer.observing = on


def freeze(model: nn.Module) -> list[Certificate]:
    """Freeze every exact layer; return the certificates, or say which one fails."""
    certificates = []
    for name, layer in exact_layers(model).items():
        layer.freeze()
        certificates.append(layer.certificate(name))
    broken = [c.layer for c in certificates if not c.holds]
    if broken:
        raise ModelError(
            f"layers {broken} exceed 2^53 and cannot be exact; reduce their input "
            "or weight bits"
        )
    return certificates


def snap(x: Tensor, step: Tensor, low: float, high: float) -> Tensor:
    """Round ``x`` to multiples of the power of two ``step``, halves upwards.

    ``low`` and ``high`` bound the multiple. Adding, flooring and scaling by a power
    of two are correctly rounded everywhere, so the result is the same everywhere.
    """
    return torch.floor(x * step.reciprocal() + 0.5).clamp_(low, high).mul_(step)


def looked_up(value: Tensor, near: Callable[[], Tensor], *sources: Tensor) -> Tensor:
    """``value``, bit for bit, with the gradient of ``near()`` if one is wanted.

    Tables have none: whoever refines latents follows the layer as it was trained.
    """
    if not (torch.is_grad_enabled() and any(x.requires_grad for x in sources)):
        return value
    trained = near()
    return value.detach() + (trained - trained.detach())


def snapped(x: Tensor, step: Tensor, low: float, high: float) -> Tensor:
    """`snap` with the gradient of the identity, for refining latents."""
    return _Snap.apply(x, step, low, high)


class _Snap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: float, high: float) -> Tensor:
        return snap(x, step, low, high)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return grad, None, None, None
