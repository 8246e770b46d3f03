# SPDX-License-Identifier: Apache-2.0
"""How many bits each tensor gets: what harms most is kept best.

    minimise  Σ_t a_t D_t(q_t) + λ Σ_t R_t(q_t)      q_t: quantizer and setting of t

a_t is the measured loss for a squared error of one, D_t and R_t are what the quantizers
offer. For each λ every tensor chooses by itself; λ is found by halving until the sum of
bytes, or the loss that is expected, is what was asked for (Shoham and Gersho 1988,
"Efficient bit allocation for an arbitrary set of quantizers"; for weights Lee and Song
2025, arXiv 2509.20214, who solve the same with integer programming).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from polycodec.codecs.quantizers.weights.base import Choice
from polycodec.registry import build, names


@dataclass(frozen=True)
class Priced:
    """A choice for a tensor: about its bytes, and its share of the loss."""

    choice: Choice
    bytes: float
    loss: float


def priced(w: np.ndarray, weight: float | None, most: float) -> list[Priced]:
    """Return what all quantizers offer for w (R, C), without what is worse in both.

    weight: loss for a squared error of one; None: unknown, and nothing is offered but
    the cheapest. most: largest squared error of an offer.
    """
    found = [
        Priced(Choice(name.partition("/")[2], o.setting), o.bytes, o.error)
        for name in names("weights/*")
        for o in build(name).offers(w)
        if o.error <= most
    ]
    found.sort(key=lambda one: (one.bytes, one.loss))
    if weight is None:
        return [replace(one, loss=0.0) for one in found[:1]]
    least, best = [], math.inf
    for one in found:
        if one.loss < best:
            best = one.loss
            least.append(Priced(one.choice, one.bytes, weight * one.loss))
    return least


def gone(w: np.ndarray, weight: float) -> Priced:
    """Return the choice that rounds all of w (R, C) to zero."""
    step = math.ceil(4 * math.log2(4 * max(float(np.abs(w).max()), 1e-20)))
    return Priced(Choice("scalar", step), 16, weight * float(np.square(w).sum()))


Menu = Mapping[str, list[Priced]]


def chosen(menu: Menu, slope: float) -> dict[str, Priced]:
    """Return the best choice of each tensor where a byte is worth so much loss."""
    return {
        name: min(offers, key=lambda one: one.loss + slope * one.bytes)
        for name, offers in menu.items()
        if offers
    }


def solved(menu: Menu, enough: Callable[[Iterable[Priced]], bool]) -> dict[str, Priced]:
    """Return choices at the smallest price of a byte at which it is ``enough``.

    enough: of all choices, true from some price on; where it never is, the cheapest.
    """
    low, high = -70.0, 70.0  # exponents of 2
    for _ in range(40):
        middle = (low + high) / 2
        if enough(chosen(menu, 2.0**middle).values()):
            high = middle
        else:
            low = middle
    return chosen(menu, 2.0**high)


def to_size(menu: Menu, size: float) -> dict[str, Priced]:
    """Return the least loss in so many bytes."""
    return solved(menu, lambda found: sum(one.bytes for one in found) <= size)


def to_loss(menu: Menu, loss: float) -> dict[str, Priced]:
    """Return the fewest bytes for such a loss."""
    low, high = -70.0, 70.0  # exponents of 2
    for _ in range(40):
        middle = (low + high) / 2
        found = chosen(menu, 2.0**middle)
        if sum(one.loss for one in found.values()) <= loss:
            low = middle
        else:
            high = middle
    return chosen(menu, 2.0**low)
