# SPDX-License-Identifier: Apache-2.0
"""After a fit: which way each tensor is coded, in the bytes that there are.

    per tensor   steps of many sizes, under the density of the stream
                 trellis, lattice, scalar (`quantizers/weights`); embeddings of frames
                 that follow each other mostly as changes from one to the next
    harm         what an error in it adds to the mean squared error of items: measured,
                 with a small noise and its opposite
    price        of a byte, halved until all fit (`quantizers/weights/allocation.py`)

Offers are estimates; what is chosen is coded, and chosen again by its real bytes and
errors, till nothing changes. The result is taken where items are nearer by it than by
the steps of the fit alone, within the same bytes. Lee and Song 2025, "Q-Palette" (arXiv
2509.20214): trellises and allocation; Zhang et al. 2024 (arXiv 2402.18152): steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from polycodec.codecs.fitting import message
from polycodec.codecs.fitting.fit import ITEMS, Fit
from polycodec.codecs.fitting.quantized import OCTAVE, Quantized, steps_of
from polycodec.codecs.packed import matrix
from polycodec.codecs.quantizers.weights.allocation import Priced, to_size
from polycodec.codecs.quantizers.weights.base import Choice
from polycodec.errors import UsageError
from polycodec.registry import build

STEPS = "steps"
TRIED = range(-8, 25, 2)  # quarters of an octave from the fit's own steps
LEAST = 256  # values of a tensor that is worth packing: the trellis' pieces
BESIDE = 2  # bytes of any tensor beside its values, about
NOISE = 1e-3  # of a tensor's energy
ROUNDS = 12

Coded = tuple[Tensor, list[message.Part]]
Size = Callable[[Tensor, Sequence[message.Part]], int]


def allocated(fit: Fit, bytes_of: Size, most: int | None) -> Coded:
    """k (G,) and how each tensor is coded, of at most so many bytes.

    bytes_of: of a stream. Without ``most``, as many as the fit's own steps take;
    UsageError where not even the coarsest steps keep to it.
    """
    own = fit.quantized or fit.start_quantizing()
    embeddings, recipe = fit.embeddings(), fit.recipe
    if most is None and recipe.coding == "trellis":
        most = int(fit.target / 8)

    def small(k: Tensor, codes: list[Tensor]) -> bool:
        return most is None or bytes_of(k, codes) <= most

    k, codes = own.coarsened(fit.network, embeddings, small)
    ways: list[Coded] = [(k, list(codes))]
    packs = fit.packs() and not fit.plan.stopped.is_set()
    if recipe.packed and not fit.packs():
        least = math.ceil(2 * fit.closing_seconds())
        fit.plan.notes.append(
            f"its weights are not packed, for want of time; {least} s are enough"
        )
    if packs and fit.plan.tell:
        fit.plan.tell(replace(fit.report(), packing=True))
    if packs:
        limit = bytes_of(*ways[0]) if most is None else most
        found = Search(fit, own, embeddings, k, bytes_of).within(limit)
        ways += [] if found is None else [found]
    sizes = [bytes_of(*way) for way in ways]
    if most is not None:
        ways = [way for way, n in zip(ways, sizes, strict=True) if n <= most]
    if not ways:
        raise UsageError(
            f"the network of this signal takes {min(sizes)} bytes at least; expected "
            f"{most} at most; ask for a larger file"
        )
    return min(ways, key=lambda one: _error_of(fit, one))


class Search:
    """What can be done for the tensors of a fit, and the best of it."""

    def __init__(
        self,
        fit: Fit,
        own: Quantized,
        embeddings: Tensor | None,
        k: Tensor,
        bytes_of: Size,
    ) -> None:
        self.bytes_of = bytes_of
        tensors = own.pruned(fit.network)
        tensors += [] if embeddings is None else [embeddings]
        names = message.shapes(fit.network)
        self.tensors = {n: t.detach() for n, t in zip(names, tensors, strict=True)}
        least = _error(fit, self.tensors)
        self.harms = {n: _harm(fit, self.tensors, n, least) for n in names}
        self.steps: dict[int, tuple[Tensor, list[Tensor]]] = {}
        self.packed: dict[tuple[str, Choice], bytes] = {}
        self.quantizers = {how: build(f"weights/{how}") for how in message.PACKED[1:]}
        lengths = message.lengths(fit.network)
        flat = tuple(n for one in lengths for n in one)
        owner = torch.tensor([g for g, one in enumerate(lengths) for _ in one])
        self.menu: dict[str, list[Priced]] = {name: [] for name in names}
        for up in TRIED:
            found = own.coded(fit.network, embeddings, k + up * OCTAVE / 4)
            self.steps[up] = found
            bits = fit.entropy.bits(torch.cat(found[1])[None], flat).cpu()
            bits = torch.zeros(len(names)).index_add(0, owner, bits)
            self._offer_steps(up, bits)
        with torch.no_grad():
            own.k.copy_(k)
        for name, value in self.tensors.items():
            if value.ndim > 1 and value.numel() >= LEAST:
                self._offer_packed(name)

    def within(self, limit: int) -> Coded | None:
        """The best way of so many bytes; None: none was found."""
        size = float(limit)
        for _ in range(ROUNDS):
            chosen = {n: one.choice for n, one in to_size(self.menu, size).items()}
            fresh = [
                pair
                for pair in chosen.items()
                if pair[1].how != STEPS and pair not in self.packed
            ]
            for name, choice in fresh:
                self._encode(name, choice)
            if fresh:
                continue
            found = self._row(chosen)
            over = self.bytes_of(*found) - limit
            if over <= 0:
                return found
            size -= max(over, 1)
        return None

    def _offer_steps(self, up: int, bits: Tensor) -> None:
        k, codes = self.steps[up]
        steps = steps_of(k)
        for g, (name, value) in enumerate(self.tensors.items()):
            error = value.flatten() - codes[g] * steps[g]
            loss = self.harms[name] * float(error.square().sum())
            about = BESIDE + float(bits[g]) / 8
            self.menu[name].append(Priced(Choice(STEPS, up), about, loss))

    def _offer_packed(self, name: str) -> None:
        w, harm = matrix(self.tensors[name]), self.harms[name]
        for how, quantizer in self.quantizers.items():
            for one in quantizer.offers(w):
                choice = Choice(how, one.setting)
                priced = Priced(choice, BESIDE + one.bytes, harm * one.error)
                self.menu[name].append(priced)

    def _encode(self, name: str, choice: Choice) -> None:
        """Code a tensor, and offer it for what it really takes."""
        w, quantizer = matrix(self.tensors[name]), self.quantizers[choice.how]
        data = quantizer.encode(w, choice.setting)
        error = float(((w - quantizer.decode(data, w.shape)) ** 2).sum())
        self.packed[name, choice] = data
        real = Priced(choice, BESIDE + len(data), self.harms[name] * error)
        others = [one for one in self.menu[name] if one.choice != choice]
        self.menu[name] = [*others, real]

    def _row(self, chosen: Mapping[str, Choice]) -> Coded:
        ks: list[Tensor] = []
        parts: list[message.Part] = []
        for g, (name, choice) in enumerate(chosen.items()):
            if choice.how == STEPS:
                k, codes = self.steps[choice.setting]
                ks.append(k[g])
                parts.append(codes[g])
            else:
                ks.append(self.steps[0][0][g])
                parts.append((choice.how, self.packed[name, choice]))
        return torch.stack(ks), parts


def _harm(fit: Fit, tensors: Mapping[str, Tensor], name: str, least: float) -> float:
    """Mean squared error that a squared error of one in a tensor adds to items.

    least: that of the tensors as they are.
    """
    value = tensors[name]
    noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
    noise = noise.to(value) * (NOISE * value.square().mean()).sqrt()
    # The opposite as well: what is linear in the noise cancels.
    worse = sum(_error(fit, {**tensors, name: value + s * noise}) for s in (1, -1))
    added = worse / 2 - least
    return max(added, 1e-12) / max(float(noise.square().sum()), 1e-20)


def _error_of(fit: Fit, coded: Coded) -> float:
    """Mean squared error of items as a decoder makes them."""
    rest = message.row_of(*coded)
    packed = any(isinstance(part, tuple) for part in coded[1])
    return _error(fit, message.opened(fit.network, rest, packed=packed))


@torch.no_grad()
def _error(fit: Fit, tensors: Mapping[str, Tensor]) -> float:
    """Mean squared error of some items of tensors by their names."""
    weights = {n: t for n, t in tensors.items() if n != message.EMBEDDINGS}
    shown, count = tensors.get(message.EMBEDDINGS), len(fit.x)
    total, chosen = 0.0, sorted({k * count // ITEMS for k in range(ITEMS)})
    for k in chosen:
        at = torch.tensor([k], device=fit.x.device)
        given = at, None if shown is None else shown[k : k + 1]
        out = torch.func.functional_call(fit.network, weights, given)
        cut: tuple[Any, ...] = (..., *(slice(n) for n in fit.x.shape[2:]))
        out = out[cut].clamp(0, 1)
        total += float((out - fit.x[at]).square().mean().double())
    return total / len(chosen)
