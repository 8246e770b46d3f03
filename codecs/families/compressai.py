# SPDX-License-Identifier: Apache-2.0
"""Architectures of CompressAI's zoo as codecs: their networks, our coder and files.

    x ── g_a ──► y ──[ their h_a, h_s, densities; our tables and coder ]── ŷ
    x̂ ◄─ g_s ──────────────────────────────────────────────────────────────┘

Where CompressAI's entropy models call their range coder with symbols, indexes and
integer tables, ours is handed the same: frequencies are those of the checkpoint, to 15
bits instead of 16. Their networks answer in floats. So another machine may derive other
tables; the hash that travels with a stream notices and refuses by name, which is all
that can be promised. One checkpoint is one rate: quality changes nothing.

`adopted.py` makes weights of a checkpoint. Autoregressive architectures call their
coder past their entropy models, and are not taken.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from polycodec.codecs.base import Codec
from polycodec.codecs.families.parts import grid_of
from polycodec.codecs.ordinary import Coded
from polycodec.codecs.signals.image import ImageSignal
from polycodec.codecs.stored import digest_of
from polycodec.codecs.transforms.base import ImageTransform
from polycodec.codecs.transforms.rate import Levels
from polycodec.cuda import TableSet
from polycodec.entropy_models import streams
from polycodec.entropy_models.base import Coder, EntropyModel, Shape, TablePrior
from polycodec.errors import ModelError
from polycodec.forking import fork_safe
from polycodec.registry import register

# Their models keep the coder that they call.
_ONE_AT_A_TIME = fork_safe(threading.Lock())
FOLD = 4  # y has stride 16; z of hyperpriors, and so files, 64
TAKEN = (
    "bmshj2018-factorized",
    "bmshj2018_factorized_relu",
    "bmshj2018-hyperprior",
    "mbt2018-mean",
)


def architectures() -> dict[str, Any]:
    """CompressAI's classes by name; ModelError where it is not installed."""
    try:
        from compressai.zoo.image import model_architectures
    except ImportError as error:
        raise ModelError(
            f"CompressAI is not here ({error}); expected it for codecs of its zoo; "
            "pip install 'polycodec[compressai]'"
        ) from error
    return {name: model_architectures[name] for name in TAKEN}


def class_of(architecture: str) -> Any:
    """CompressAI's class of that name; ModelError for one that cannot be coded here."""
    known = architectures()
    if architecture not in known:
        raise ModelError(
            f"'{architecture}' of CompressAI cannot be coded here; expected one of "
            f"{', '.join(known)}, which hand all symbols to their entropy models"
        )
    return known[architecture]


class _AsItIs:
    """ŷ where a model of theirs wants an image to clamp."""

    def __init__(self, y_hat: Tensor) -> None:
        self.y_hat = y_hat

    def clamp_(self, low: float, high: float) -> Tensor:
        """Nothing is clamped."""
        return self.y_hat


class _NoSynthesis(nn.Module):
    def forward(self, y_hat: Tensor) -> Any:
        return _AsItIs(y_hat)


class CompressAITransform(ImageTransform):
    """Their g_a and g_s; latents folded to stride 64, samples in [0, 1]."""

    grid = 64

    def __init__(self, g_a: nn.Module, g_s: nn.Module, channels: int) -> None:
        super().__init__(channels * FOLD**2, 16 * FOLD)
        self.analysis, self.synthesis = g_a, g_s

    def reach(self) -> None:
        """How far they look is not said: there are no tiles."""

    def g_a(self, x: Tensor, level: Tensor) -> Tensor:
        """Prepared signals (B, 3, H, W) -> (B, 16 M, H/64, W/64)."""
        return F.pixel_unshuffle(self.analysis(x + 0.5), FOLD)

    def g_s(self, z_hat: Tensor, level: Tensor) -> Tensor:
        """The reverse."""
        return self.synthesis(F.pixel_shuffle(z_hat, FOLD)) - 0.5


@dataclass(eq=False)
class _Given(TablePrior):
    """Tables and indexes (1, n) as their entropy model has them."""

    tables: TableSet | None
    index: Tensor
    hashed = True
    thrifty = False

    @property
    def device(self) -> torch.device:
        return self.index.device

    def indexes(self, shape: Shape) -> Tensor:
        return self.index

    def checked(self, indexes: Tensor) -> Tensor:
        return indexes

    def bits(self, v: Tensor) -> Tensor:
        return self.table_bits(v.to(torch.int32))


class _Symbols(list[int]):
    """What was encoded, in place of a string: encoders read ẑ back at once."""


class _Passes:
    """Stands where CompressAI's range coder does; every call is a pass of ours."""

    def __init__(self, coder: Coder, tables: TableSet) -> None:
        self.coder, self.tables = coder, tables

    def encode_with_indexes(
        self, symbols: list[int], indexes: list[int], *tables: Any
    ) -> _Symbols:
        """Code symbols; what comes back stands for their bytes."""
        value = torch.tensor(symbols, dtype=torch.float32)[None]
        self.coder.code(value, self._prior(indexes), tuple(value.shape))
        return _Symbols(symbols)

    def decode_with_indexes(
        self, data: Any, indexes: list[int], *tables: Any
    ) -> list[int]:
        """Return the next symbols."""
        if isinstance(data, _Symbols):
            return data
        found = self.coder.code(None, self._prior(indexes), (1, len(indexes)))
        return found[0].to(torch.int32).tolist()

    def _prior(self, indexes: list[int]) -> _Given:
        return _Given(self.tables, torch.tensor(indexes, dtype=torch.int32)[None])


class CompressAIModel(EntropyModel):
    """The entropy models of an architecture behind one order of coding."""

    stride = 1

    def __init__(self, model: nn.Module, channels: int) -> None:
        super().__init__()
        self.model, self.channels = model, channels
        self.hyper = hasattr(model, "h_a")

    def code(
        self,
        coder: Coder,
        y: Tensor | None,
        size: Shape,
        *,
        rate: Any = None,
        z: Tensor | None = None,
    ) -> Tensor:
        if size[0] != 1:
            raise ModelError("CompressAI's models are coded an image at a time")
        model: Any = self.model
        strings: list[Any] = [[b""]] * (2 if self.hyper else 1)
        fold = 1 if self.hyper else FOLD  # ẑ's grid, or ŷ's
        shape = torch.Size(fold * n for n in size[1:])
        with self._coding_with(coder):
            if y is not None:
                coded = model.compress(F.pixel_shuffle(y, FOLD))
                strings, shape = coded["strings"], coded["shape"]
            y_hat = model.decompress(strings, shape)["x_hat"]
        return F.pixel_unshuffle(y_hat, FOLD)

    @contextlib.contextmanager
    def _coding_with(self, coder: Coder) -> Iterator[None]:
        """Put our coder in the place of theirs for a while, for one thread."""
        if not self.tables:
            self.update()
        with _ONE_AT_A_TIME, contextlib.ExitStack() as stack:
            for name, part in self._parts().items():
                stack.callback(setattr, part, "entropy_coder", part.entropy_coder)
                tables = self.table(name)
                assert tables is not None
                part.entropy_coder = _Passes(coder, tables)
            yield

    def update(self) -> None:
        """Read the tables of the checkpoint, integers to 16 bits, as ours to 15."""
        self.tables = {name: _tables(part) for name, part in self._parts().items()}

    def _parts(self) -> dict[str, Any]:
        from compressai.entropy_models import EntropyModel as Theirs

        parts = self.model.named_modules()
        return {n.replace(".", "-"): m for n, m in parts if isinstance(m, Theirs)}


def _tables(part: Any) -> TableSet:
    """Tables of an entropy model of theirs; the last slot of a row is its escape."""
    pmfs, tails = [], []
    for cdf, length in zip(part.quantized_cdf, part.cdf_length.tolist(), strict=True):
        frequencies = np.diff(cdf[:length].cpu().numpy().astype(np.float64))
        pmfs.append(frequencies[:-1])
        tails.append(float(frequencies[-1]))
    return TableSet.from_pmfs(pmfs, part.offset.tolist(), 15, tails)


@register("codec/compressai")
class CompressAICodec(Codec):
    """One checkpoint of ``architecture``; ``sizes``: N and M, channels of layers."""

    family = "compressai"
    entropy: CompressAIModel

    def __init__(
        self,
        *,
        architecture: str = "mbt2018-mean",
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        model = class_of(architecture)(**(sizes or {"N": 128, "M": 192}))
        self.signal, self.rates = ImageSignal(), Levels(1)
        M = int(model.M)
        self.transform = CompressAITransform(model.g_a, model.g_s, M)
        self.channels = self.transform.channels
        model.g_a, model.g_s = nn.Identity(), _NoSynthesis()
        self.entropy = CompressAIModel(model, self.channels)

    def _rename(self, state: dict[str, Tensor], prefix: str, *more: Any) -> None:
        """Make room for tables, whose sizes only a checkpoint knows."""
        super()._rename(state, prefix, *more)
        for name, buffer in self.named_buffers():
            if name in state:
                buffer.resize_(state[name].shape)

    @property
    def ready(self) -> bool:
        return True

    def analyse(self, x: Tensor, level: float) -> Tensor:
        return self.transform.analyse(x, x.new_zeros(len(x)))

    def quantize(self, z: Tensor, level: float) -> Tensor:
        return z

    def dequantize(self, codes: Tensor, level: float) -> Tensor:
        return codes

    def synthesise(self, z_hat: Tensor, level: float) -> Tensor:
        return self.transform.synthesise(z_hat, z_hat.new_zeros(len(z_hat)))

    def check_codes(self, codes: Tensor) -> None:
        return

    def code(
        self,
        coder: Coder,
        codes: Tensor | None,
        level: float,
        size: tuple[int, ...] | None = None,
        *,
        side: Tensor | None = None,
    ) -> Tensor:
        return self.entropy.code(coder, codes, grid_of(codes, size))

    def write(
        self,
        codes: Tensor,
        level: float,
        *,
        side: Tensor | None = None,
        context: streams.Contexts = b"",
        thrifty: bool = True,
    ) -> Coded:
        """See :meth:`Codec.write`; their models code an image at a time."""
        write = super().write
        own = streams.contexts_of(context, len(codes))
        pairs = zip(codes.split(1), own, strict=True)
        each = [write(one, level, context=context) for one, context in pairs]
        return Coded(
            [item for coded in each for item in coded.data],
            torch.cat([coded.codes for coded in each]),
            [bits for coded in each for bits in coded.estimated_bits],
        )

    def read(
        self,
        data: Sequence[bytes],
        level: float,
        size: Sequence[int],
        *,
        context: streams.Contexts = b"",
    ) -> Tensor:
        """See :meth:`Codec.read`; an image at a time."""
        read = super().read
        pairs = zip(data, streams.contexts_of(context, len(data)), strict=True)
        return torch.cat([read([one], level, size, context=own) for one, own in pairs])

    def save(self, path: str | Path, config: dict[str, Any]) -> str:
        """See :meth:`Codec.save`; at the precision of the checkpoint."""
        tensors = {k: v.contiguous().cpu() for k, v in self.state_dict().items()}
        save_file(tensors, str(path), {"config": json.dumps(config)})
        return digest_of(path).hex()
