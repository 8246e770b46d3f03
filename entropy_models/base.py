# SPDX-License-Identifier: Apache-2.0
"""What entropy models, priors and coders promise one another.

    EntropyModel.code(coder, y, size)      states an order of coding once, a loop of
        coder.code(value, prior, shape)    passes; what a pass does is the coder's:
                                           estimate, encode, decode, count
        prior                              how likely each element of the pass is

A model never asks which coder it was handed, a coder never asks which prior: each does
what its base says, and a new one is a subclass of a class of this file.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from polycodec import cuda
from polycodec.cuda import BatchMixture, ScaleSet, TableSet
from polycodec.entropy_models import streams
from polycodec.entropy_models.symbols import codable, symbol_bits

Shape = tuple[int, ...]


class Prior(abc.ABC):
    """A distribution for each element of one pass, (B, C, h, w) or any (B, ...).

    ``hashed``: its parameters are computed from what was decoded, so a decoder checks
    that it has the encoder's by a hash. ``thrifty``: an encoder may take a value next
    to the nearest one where that saves more bits than the error is worth.
    """

    hashed: ClassVar[bool]
    thrifty: ClassVar[bool]

    @property
    @abc.abstractmethod
    def device(self) -> torch.device:
        """Where decoded values are wanted."""

    @property
    def means(self) -> Tensor | float:
        """What is subtracted before rounding; differentiable. 0: nothing."""
        return 0.0

    @property
    def offsets(self) -> Tensor | float:
        """The means on their grid: what coders subtract and decoders add, exactly."""
        return 0.0

    @property
    def centre(self) -> Tensor | float:
        """The whole number that thrift moves values towards, offsets subtracted."""
        return 0.0

    def settled(self, value: Tensor) -> Tensor:
        """``value`` with what this prior is certain of in its place (`certain`)."""
        return value

    def certain(self, where: Tensor) -> Prior:
        """The same prior, certain of one value at ``where``, bool of its shape."""
        raise TypeError(f"{type(self).__name__} is never certain of a value")

    @abc.abstractmethod
    def bits(self, v: Tensor) -> Tensor:
        """Bits of values ``v``, offsets subtracted; same shape, differentiable."""

    @abc.abstractmethod
    def codable(self, values: Tensor) -> Tensor:
        """The nearest whole numbers that can be coded; ``values`` while training."""

    @abc.abstractmethod
    def ideal_bits(self, symbols: Tensor) -> Tensor:
        """Information in codable int32 symbols (B, ...), (B,) float64: what a perfect
        coder of the frozen distributions would need."""

    @abc.abstractmethod
    def write(self, writer: streams.Writer, symbols: Tensor) -> None:
        """Append a pass of int32 symbols (B, ...) to B streams."""

    @abc.abstractmethod
    def read(self, reader: streams.Reader, shape: Shape) -> Tensor:
        """Read the next pass, int32 of ``shape``, where it was decoded."""


class TablePrior(Prior):
    """Integer tables, and which of them codes each element.

    ``tables``: None until the model is frozen.
    """

    tables: TableSet | None

    @abc.abstractmethod
    def indexes(self, shape: Shape) -> Tensor:
        """The table of every element of ``shape``, integers."""

    def checked(self, indexes: Tensor) -> Tensor | None:
        """What a decoder must have computed alike, int32 of the shape of ``indexes``.

        A hashed prior puts its integer means and table indexes into one number for each
        element: how passes are cut then makes no difference. None: nothing is computed.
        """
        return None

    def codable(self, values: Tensor) -> Tensor:
        """Any value while there are no tables."""
        if self.tables is None:
            return values
        return codable(values, self.indexes(tuple(values.shape)), self.tables)

    def ideal_bits(self, symbols: Tensor) -> Tensor:
        return self.table_bits(symbols).flatten(1).sum(1)

    def table_bits(self, symbols: Tensor) -> Tensor:
        """Bits of codable symbols by the integer tables, float64, no gradient."""
        indexes = self.indexes(tuple(symbols.shape))
        return symbol_bits(symbols, indexes, self._frozen)

    def write(self, writer: streams.Writer, symbols: Tensor) -> None:
        indexes = self.indexes(tuple(symbols.shape))
        writer.put(symbols, indexes, self._frozen, self.checked(indexes))

    def read(self, reader: streams.Reader, shape: Shape) -> Tensor:
        indexes = self.indexes(shape)
        return reader.get(indexes, self._frozen, self.checked(indexes))

    @property
    def _frozen(self) -> TableSet:
        assert self.tables is not None, "the model has no tables yet"
        return self.tables


class DistributionPrior(Prior):
    """A distribution of its own for every element, evaluated by the range coder."""

    @abc.abstractmethod
    def distributions(self) -> Sequence[cuda.Mixture | cuda.Categorical]:
        """What codes the elements of each item of the batch, on the host."""

    def on_device(self) -> BatchMixture:
        """What codes all items where they lie; only if tensors can lie on a device."""
        raise TypeError(f"{type(self).__name__} is coded on the host")

    def codable(self, values: Tensor) -> Tensor:
        """Numbers of 16 bits."""
        return values.clamp(-(2**15), 2**15 - 1)

    def ideal_bits(self, symbols: Tensor) -> Tensor:
        return self.bits(symbols).flatten(1).sum(1).double()

    def write(self, writer: streams.Writer, symbols: Tensor) -> None:
        writer.put_prior(symbols, self)

    def read(self, reader: streams.Reader, shape: Shape) -> Tensor:
        return reader.get_prior(self, shape)


class Coder(abc.ABC):
    """Estimates, encodes, decodes or counts: what one pass of a model means.

    ``serial``: passes may be cut differently by whoever reads them; an autoregressive
    model then hands over everything in one pass, in the order in which it is read.
    """

    serial: bool = False

    @abc.abstractmethod
    def code(self, value: Tensor | None, prior: Prior, shape: Shape) -> Tensor:
        """Handle the pass of ``value``, of ``shape`` (B, ...); None when decoding.

        Returns what a decoder will have, float: rounded around the prior's means.
        """

    def check_holds(self, bits: float) -> None:
        """A decoder raises BitstreamError if its streams are shorter than ``bits``.

        Asked before there is memory for what is read of them.
        """
        return


class EntropyModel(nn.Module, abc.ABC):
    """How likely latents or codes are, and in which order they are coded.

    ``channels``: of y, as the transform beside it has. ``stride``: of the coarsest
    grid that is coded, in positions of y. ``kind``: of signal, where a model is made
    for one. ``codes``: what it codes. ``serial``: what is written in one pass is read
    in many. ``host``: passes are on the host, wherever the model is.
    """

    channels: int
    stride: int = 1
    kind: str | None = None
    codes: ClassVar[str] = "latents"
    serial: bool = False
    tables: dict[str, TableSet | ScaleSet]

    def __init__(self) -> None:
        super().__init__()
        self.tables = {}

    @abc.abstractmethod
    def code(
        self,
        coder: Coder,
        y: Tensor | None,
        size: Shape,
        *,
        rate: Any = None,
        z: Tensor | None = None,
    ) -> Tensor:
        """Code y (B, M, *S), or decode it when None; returns ŷ of the same shape.

        size: (B, *S). rate: what the codec's rate does to latents, for models that
        look at it (`models.autoregressive.Scales`). z: side information to code in
        place of the model's own (`side`), for search at encoding.
        """

    @property
    def whole(self) -> bool:
        """Whether what is decoded are whole numbers, not such around a mean."""
        return self.codes != "latents"

    @property
    def host(self) -> bool:
        """Whether streams are written and read on the host."""
        return self.serial

    @abc.abstractmethod
    def update(self) -> None:
        """Build the integer tables; afterwards the model can code."""

    def table(self, name: str) -> TableSet | None:
        """The integer tables of ``name``; None until the model is frozen."""
        table = self.tables.get(name)
        if isinstance(table, ScaleSet):
            raise TypeError(f"'{name}' are scales of mixtures; expected tables")
        return table

    def side(self, y: Tensor) -> Tensor | None:
        """Side information z of y that an encoder may refine; None: there is none."""
        return None

    def initialise(self, deviation: Tensor) -> None:
        """Start from the deviations of y's channels, (M,), or (L, M) at L rates."""
        return

    def adopted(self, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of another trained model, by name, as this one can use them.

        Whatever still does not fit is left out where training starts from it.
        """
        return dict(known)

    def penalty(self) -> Tensor | None:
        """What training adds to its loss after `code`; None: nothing."""
        return None

    def counter(self) -> Counter | None:
        """A coder that counts what `refit` fits tables to; None: nothing is fitted."""
        return None

    def refit(self, counter: Counter) -> None:
        """Fit the tables to what `counter` has seen; it came from this model."""
        return


class Counter(Coder):
    """A coder that codes nothing: it rounds as an encoder does, and counts."""

    @property
    @abc.abstractmethod
    def total(self) -> int:
        """Symbols counted so far."""
