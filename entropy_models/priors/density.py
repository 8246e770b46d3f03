# SPDX-License-Identifier: Apache-2.0
"""Densities as parts: how many numbers a network gives a latent, and what they mean.

    raw (B, outputs · C, ...) ── of ──► a Prior of (B, C, ...)

A model of `entropy_models/models/sliced.py` names one, `prior/gaussian` or another, and
any of its references feeds any of them.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from polycodec.cuda import ScaleSet, TableSet
from polycodec.cuda.priors.mixture import MAX_COMPONENTS
from polycodec.entropy_models.base import Counter, Prior
from polycodec.entropy_models.priors.gaussian import Gaussian
from polycodec.entropy_models.priors.mixture import Mixture, scale_set
from polycodec.entropy_models.priors.scales import SCALE_BINS
from polycodec.entropy_models.priors.statistics import TableCounter
from polycodec.entropy_models.priors.tables import LARGEST, gaussian_tables
from polycodec.errors import ModelError
from polycodec.registry import build, named, register

Tables = TableSet | ScaleSet
START = 22.0  # the scale index near σ = 1: a net starts there, not at the smallest


class Density(abc.ABC):
    """Base of `prior/*`. ``outputs``: numbers that a network gives for each latent;
    ``whole``: whether whole numbers are coded, not such around a mean."""

    outputs: int
    whole: ClassVar[bool] = False

    @abc.abstractmethod
    def of(self, raw: Tensor, tables: Tables | None) -> Prior:
        """The prior of (B, C, ...) from raw (B, outputs · C, ...)."""

    @abc.abstractmethod
    def start(self, index: Tensor) -> Tensor:
        """A network's first biases, (outputs · C,), for scale indexes (C,)."""

    def widened(self, rows: Tensor) -> Tensor:
        """Rows (2 · C, ...) that made Gaussians, weights or biases of a last layer, as
        rows (outputs · C, ...) that make nearly the same densities; ModelError if this
        density has none for them.
        """
        raise ModelError(f"{type(self).__name__} cannot start from a Gaussian")

    @abc.abstractmethod
    def tables(self, counter: Counter | None = None) -> Tables:
        """What codes them, fitted to what ``counter`` saw; run once, at export."""

    def doubt(self, raw: Tensor) -> Tensor:
        """How unsure raw is of its likeliest value, (B, C, ...), as a scale index."""
        raise ModelError(f"{type(self).__name__} cannot say how sure it is")

    def counter(self) -> Counter | None:
        """What counts symbols for `tables`; None: nothing is fitted."""
        return None


def density_of(prior: Mapping[str, Any] | str) -> Density:
    """The density that a config names: a name of `prior/*`, or with its options."""
    name, options = named("prior", prior)
    return cast("Density", build(name, **options))


@register("prior/gaussian")
class GaussianDensity(Density):
    """A mean and a scale, rounded around the mean."""

    outputs = 2

    def of(self, raw: Tensor, tables: Tables | None) -> Prior:
        mean, index = raw.chunk(2, dim=1)
        assert tables is None or isinstance(tables, TableSet)
        return Gaussian(mean, index, tables)

    def start(self, index: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(index), index])

    def doubt(self, raw: Tensor) -> Tensor:
        return raw.chunk(2, dim=1)[1]

    def tables(self, counter: Counter | None = None) -> Tables:
        assert counter is None or isinstance(counter, TableCounter)
        return gaussian_tables(None if counter is None else counter.counts)

    def counter(self) -> Counter:
        return TableCounter(Gaussian, SCALE_BINS, LARGEST)


@register("prior/mixture")
class MixtureDensity(Density):
    """K means, scales and weights; whole numbers are coded.

    ``components``: K <= 4. ``least``: of each weight, in 1/256: with 0 components may
    vanish, which saves 0.1 to 0.4 % of photographs' bytes, at low rates up to 1.4 %;
    with 1, which is what stored weights mean that do not say, none does.
    """

    whole = True

    def __init__(self, *, components: int = 3, least: int = 1) -> None:
        if not 1 <= components <= MAX_COMPONENTS:
            raise ModelError(
                f"components is {components!r}; expected 1 to {MAX_COMPONENTS}"
            )
        if least not in (0, 1):
            raise ModelError(f"least is {least!r}; expected a least weight of 0 or 1")
        self.components, self.outputs = components, 3 * components
        self.least = least

    def of(self, raw: Tensor, tables: Tables | None) -> Prior:
        shape = (3, self.components, -1)
        centres, index, logits = raw.unflatten(1, shape).unbind(1)  # (B, K, C, ...)
        assert tables is None or isinstance(tables, ScaleSet)
        return Mixture(centres, index, logits, tables, least=self.least)

    def start(self, index: Tensor) -> Tensor:
        # Side by side rather than alike: components that start alike stay alike.
        apart = torch.linspace(-0.5, 0.5, self.components).view(-1, 1)
        means = apart.expand(-1, len(index))
        wider = index + 4 * apart
        return torch.cat([means, wider, torch.zeros_like(means)]).flatten()

    def widened(self, rows: Tensor) -> Tensor:
        mean, index = rows.chunk(2)
        k = self.components
        same = torch.cat([*[mean] * k, *[index] * k, *[torch.zeros_like(mean)] * k])
        if rows.ndim > 1:
            return same
        apart = self.start(torch.zeros_like(index))
        apart[: len(mean) * k] /= 10  # half a symbol would cost what is nearly sure
        return same + apart

    def doubt(self, raw: Tensor) -> Tensor:
        # Several means, or one between two whole numbers, say as much as a scale.
        parts = raw.unflatten(1, (3, self.components, -1))
        centres, index = parts[:, 0], parts[:, 1].amax(1)
        apart = centres.amax(1) - centres.amin(1)
        away = (centres[:, 0] - torch.floor(centres[:, 0] + 0.5)).abs()
        return index + SCALE_BINS * (apart + away)

    def tables(self, counter: Counter | None = None) -> Tables:
        return scale_set()
