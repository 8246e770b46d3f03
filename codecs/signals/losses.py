# SPDX-License-Identifier: Apache-2.0
"""A network that loses packets, to try calls with: Gilbert's model, in two states.

    comes ── p ──► lost          share lost     p / (p + r)
      ▲             │            mean burst     1 / r packets
      └──── r ──────┘

Gilbert 1960, "Capacity of a burst-noise channel". Which packets are lost follows from
the seed alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

from polycodec.errors import UsageError

Packet = TypeVar("Packet")


class LossyNetwork:
    """``share`` of packets that are lost, ``burst``: how many in a row, on average."""

    def __init__(self, share: float, burst: float = 1.5, seed: int = 0) -> None:
        if not 0 <= share < 1 or burst < 1 or share > burst * (1 - share):
            raise UsageError(
                f"share is {share}, burst {burst}; expected a share of 0 to below 1 "
                "and bursts of 1 packet or more that leave room for others"
            )
        self._ends = 1 / burst
        self._begins = self._ends * share / (1 - share)
        self._random = np.random.default_rng(seed)
        self._lost = bool(self._random.random() < share)

    def loses(self) -> bool:
        """Whether the next packet is lost."""
        found = self._lost
        chance = 1 - self._ends if found else self._begins
        self._lost = bool(self._random.random() < chance)
        return found

    def carry(self, packets: Iterable[Packet]) -> Iterator[Packet | None]:
        """The packets that come, None for others."""
        for packet in packets:
            yield None if self.loses() else packet
