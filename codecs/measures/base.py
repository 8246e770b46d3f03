# SPDX-License-Identifier: Apache-2.0
"""What a measure is, for every kind of signal: its name, its reading, its rule."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from polycodec.errors import UnknownNameError

# The value of a pair, original and decoded, at a rate in Hz (of images: 0).
Judge = Callable[[np.ndarray, np.ndarray, int], float]


@dataclass(frozen=True)
class Measure:
    """One measure: what tables and plots call it, and how to read it."""

    name: str
    label: str
    unit: str
    digits: int
    better: int  # 1: more is better, -1: less is
    judge: Judge
    packages: tuple[tuple[str, str], ...] = ()  # distribution, module
    rule: str = ""  # how it is taken, where that is not the package's only way
    silent: bool = False  # whether an original of zeros can be judged
    asked: bool = False  # taken only where it is named
    # Not taken of pairs: made of the mean of the measure of this name.
    of_mean: tuple[str, Callable[[float], float]] | None = None

    def missing(self) -> str | None:
        """Say why it cannot be taken here, or None."""
        for package, module in self.packages:
            if importlib.util.find_spec(module) is None:
                return f"{package} is not installed"
        return None

    def version(self) -> str:
        """Return the packages behind it with their versions, and its rule."""
        parts = [f"{p} {importlib.metadata.version(p)}" for p, _ in self.packages]
        return ", ".join([*parts, *([self.rule] if self.rule else [])])


class Unjudged(Exception):
    """A measure has no value for this pair, and why."""


class Measures:
    """The measures of one kind of signal, in their order.

    ``check``: raises InputError for a pair that no measure could judge. ``rate``: of
    signals unless told, in Hz.
    """

    def __init__(
        self,
        check: Callable[[np.ndarray, np.ndarray], None],
        *every: Measure,
        rate: int = 0,
    ) -> None:
        self.check, self.every, self.rate = check, every, rate
        self._taken = [measure for measure in every if measure.of_mean is None]

    def chosen(self, names: Sequence[str] | None = None) -> list[Measure]:
        """Return the measures of these names that can be taken here.

        Unless told, all but those that must be asked for.
        """
        return [m for m in self._wanted(names) if not m.missing()]

    def shown(self, taken: Sequence[str]) -> list[Measure]:
        """Return the measures of ``taken`` names, and those made of their means."""
        return [m for m in self.every if (m.of_mean or (m.name,))[0] in taken]

    def rules(self, names: Sequence[str] | None = None) -> dict[str, str]:
        """Return what figures depend on: every measure taken, with its versions."""
        return {measure.name: measure.version() for measure in self.chosen(names)}

    def skipped(self, names: Sequence[str] | None = None) -> dict[str, str]:
        """Return what `chosen` leaves out since it cannot be taken here, and why."""
        reasons = {measure.label: measure.missing() for measure in self._wanted(names)}
        return {label: reason for label, reason in reasons.items() if reason}

    def _wanted(self, names: Sequence[str] | None) -> list[Measure]:
        known = {measure.name: measure for measure in self._taken}
        for name in names or ():
            if name not in known:
                raise UnknownNameError.of("measure", name, known)
        if names is None:
            return [measure for measure in self._taken if not measure.asked]
        return [measure for measure in self._taken if measure.name in names]

    def score(
        self,
        original: np.ndarray,
        decoded: np.ndarray,
        names: Sequence[str] | None = None,
        rate: int | None = None,
    ) -> tuple[dict[str, float | None], dict[str, str]]:
        """Take measures of a pair: those that are `chosen`.

        Returns values and notes: a value is None where a measure refused the pair; its
        note says why. InputError for a pair that fits no measure.
        """
        self.check(original, decoded)
        rate = self.rate if rate is None else rate
        values: dict[str, float | None] = {}
        notes = {}
        for measure in self.chosen(names):
            try:
                if not measure.silent and not original.any():
                    raise Unjudged("the original is silent")
                values[measure.name] = measure.judge(original, decoded, rate)
            except Unjudged as reason:
                values[measure.name] = None
                notes[measure.name] = str(reason)
        return values, notes
