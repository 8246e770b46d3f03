# SPDX-License-Identifier: Apache-2.0
"""The implicit family: a network is fitted to the signal, and its weights are coded.

    x ── fit ──► weights, embeddings ── / step, rounded ──► codes ── coder ──► bytes
    x̂ ◄─ network ── weights, embeddings ◄── · step ── codes ◄─────────────────┘

    codes, in one row (1, 1, n)     sizes of the signal    not coded: a header says them
                                    width of the network, below 0 where tensors are
                                    packed by quantizers of weights
                                    steps, weights, embeddings (`fitting/message.py`)

The weights of such a codec are tables alone: all that is learned is in the stream. It
knows no signal: items of a clip are its frames, an image and a sound are one item. Chen
et al. 2021, NeRV (arXiv 2110.13903); Dupont et al. 2021, COIN (arXiv 2103.03123).
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polycodec.codecs.base import Codec, Coded, ordinary
from polycodec.codecs.families.parts import Options, part_of, signal_of
from polycodec.codecs.fitting import heap, message
from polycodec.codecs.fitting.allocated import allocated
from polycodec.codecs.fitting.clip import ClipDecoder, ClipEncoder
from polycodec.codecs.fitting.fit import Fit
from polycodec.codecs.fitting.picture import PictureDecoder, PictureEncoder
from polycodec.codecs.fitting.plan import Plan, Recipe
from polycodec.codecs.fitting.sound import Itself, fitted_sounds
from polycodec.codecs.signals.grid import Grid
from polycodec.codecs.signals.tiles import ImageDecoder, ImageEncoder
from polycodec.codecs.signals.video import GroupDecoder, GroupEncoder
from polycodec.codecs.transforms.base import Tiling
from polycodec.codecs.transforms.network import Network, on_meta, width_within
from polycodec.codecs.transforms.rate import Levels
from polycodec.entropy_models import streams
from polycodec.entropy_models.base import Coder, EntropyModel
from polycodec.entropy_models.models.weights import WeightsModel
from polycodec.errors import BitstreamError, InputError, ModelError, UsageError
from polycodec.forking import fork_safe
from polycodec.registry import find, register

LEVELS = 101
MOST_WIDTH, MOST_ITEMS = 4096, 1 << 14
LEAST_LIMIT = 1 << 20  # values that any signal may have; else as many as samples
LEAST_BITS = 0.5  # of a value beyond those, on average  # BITSTREAM
_ONE_AT_A_TIME = fork_safe(threading.Lock())  # networks that are drawn


@register("codec/implicit")
class ImplicitCodec(Codec):
    """A network and a way of fitting it.

    ``network``: its name and options, but for sizes and width. ``fit``: options of
    `Recipe`. ``bpp``: bits a pixel, or a sample of sound, of quality 0 and 100; between
    them it grows by equal factors. ``depth``: bits that a value may take on average:
    so many values has the network of a rate.

    A call's plan says how its signals are fitted; without one the recipe does.
    """

    family = "implicit"
    fitted = True
    entropy: WeightsModel
    transform: Any  # None but for sounds: what asks for one says that there is none

    def __init__(
        self,
        *,
        signal: Options | str | None = None,
        network: Options | None = None,
        entropy: Options | None = None,
        fit: Options | None = None,
        bpp: Sequence[float] = (0.02, 2.0),
        depth: float = 4.0,
    ) -> None:
        super().__init__()
        self.options = {"name": "coordinates", **(network or {})}
        part: Any = find(f"network/{self.options.pop('name')}")
        self.part: type[Network] = part
        # Now, not while encoding: a TypeError for an option that it has not.
        inspect.signature(part).bind((), 1, 1, **self.options)
        self.signal = signal_of(signal, self.part.kind or "image")
        if self.part.kind not in (None, self.signal.kind):
            raise ModelError(
                f"{self.part.__name__} is a network for {self.part.kind}, the codec "
                f"around it codes {self.signal.kind}; take another network or signal"
            )
        given: dict[str, Any] = {"signal": self.signal, "channels": 1}
        model = part_of(EntropyModel, "entropy", entropy, default="weights", **given)
        if not isinstance(model, WeightsModel):
            raise ModelError(
                f"the entropy model is a {type(model).__name__}; expected one of "
                "weights, such as entropy/weights"
            )
        self.entropy = model
        self.recipe = Recipe(**(fit or {}))
        self.rates = Levels(LEVELS)
        if not (len(bpp) == 2 and 0 < bpp[0] < bpp[1] and depth > 0):
            raise ModelError(
                f"bpp is {tuple(bpp)} and depth {depth}; expected 0 < low < high, and "
                "more than 0"
            )
        self.bpp, self.depth, self.channels = tuple(bpp), depth, 1
        self.transform = Itself() if self.signal.kind == "speech" else None

    @property
    def stride(self) -> int:
        """Nothing is padded: networks make more than is wanted, and it is cut."""
        return 1

    @property
    def device(self) -> torch.device:
        return self.entropy.units.device

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """The sizes of the signal themselves; see `code`."""
        return tuple(size)

    @property
    def axes(self) -> int:
        """How many sizes a signal has."""
        return len(self.signal.shape) - 2

    @property
    def tiling(self) -> Tiling:
        """One network makes a whole image."""
        if self.signal.kind != "image":
            return super().tiling
        return Tiling(1, 1, None)

    def image_encoder(
        self, pixels: np.ndarray, peak: int, tile: int, effort: int = 0
    ) -> ImageEncoder:
        return PictureEncoder(self, pixels, peak, plan=Plan(steps=effort or None))

    def image_decoder(
        self, grid: Grid, quality: float, read_chunk: Callable[[int], bytes]
    ) -> ImageDecoder:
        return PictureDecoder(self, grid, quality, read_chunk)

    def sound_codes(
        self,
        blocks: Iterable[np.ndarray],
        frames: int,
        level: float | None = None,
        plan: Plan | None = None,
    ) -> Iterator[Tensor]:
        level = self.levels if level is None else level
        return fitted_sounds(self, blocks, frames, level, plan or Plan())

    def group_encoder(
        self, size: Sequence[int], gop: int | None = None, plan: Plan | None = None
    ) -> GroupEncoder:
        return ClipEncoder(self, size, gop, plan or Plan())

    def group_decoder(
        self, size: Sequence[int], gop: int, frames: int, quality: float
    ) -> GroupDecoder:
        return ClipDecoder(self, size, gop, frames)

    def bits_of(self, level: float, size: Sequence[int]) -> float:
        """Bits that a level means for a signal of ``size``."""
        low, high = self.bpp
        rate = low * (high / low) ** ((level - 1) / (LEVELS - 1))
        return rate * torch.Size(size).numel()

    def network_of(self, size: Sequence[int], width: int) -> Network:
        """A network of fresh weights for a signal of ``size``."""
        items = tuple(size) if self.signal.kind == "video" else (1, *size)
        channels = int(self.signal.shape[1])
        return self.part(items, channels, width, **self.options)

    def items(self, x: Tensor) -> Tensor:
        """Items (N, C, *S) in [0, 1] of a signal (1, C, *S); the only copy of it."""
        low, high = self.signal.low, self.signal.high
        if self.signal.kind == "video":
            x = x[0].movedim(1, 0)
        return torch.sub(x, low, out=x.new_empty(x.shape)).div_(high - low)

    def analyse(self, x: Tensor, level: float) -> Tensor:
        """Codes (B, 1, n) of prepared signals x: each is fitted."""
        return self._analysed(self.signal.restored(x), level, Plan())

    def _analysed(self, x: Tensor, level: float, plan: Plan) -> Tensor:
        """Codes of signals in their range."""
        with torch.inference_mode(False), torch.enable_grad(), heap.kept():
            return message.together(self._fitted(one[None], level, plan) for one in x)

    def quantize(self, z: Tensor, level: float) -> Tensor:
        return torch.round(z)

    def code(
        self,
        coder: Coder,
        codes: Tensor | None,
        level: float,
        size: tuple[int, ...] | None = None,
        *,
        side: Tensor | None = None,
    ) -> Tensor:
        """See :meth:`Codec.code`; ``size`` (1, *S) are sizes of the signal itself."""
        axes = self.axes
        if codes is None:
            assert size is not None, "decoding needs the size of the signal"
            sizes, width = tuple(size[1:]), None
        else:
            sizes = tuple(map(int, codes[0, 0, :axes]))
            width = codes[0, :, axes : axes + 1]
        width = self.entropy.number(coder, width)
        network, packed = self._network(sizes, abs(int(width))), bool(width < 0)
        coder.check_holds(least_bits(network))
        rest = None if codes is None else codes[0, :, axes + 1 :]
        coded = message.code(
            self.entropy, coder, rest, network, packed=packed, side=side
        )
        head = torch.tensor([*sizes, int(width)], device=coded.device)
        return torch.cat([head.to(coded.dtype), coded[0]])[None, None]

    def dequantize(self, codes: Tensor, level: float) -> Tensor:
        """Prepared signals (B, C, *S) of codes (B, 1, n), all items of each."""
        whole = []
        for row in codes:
            network, embeddings = self.opened(row[None])
            count = network.size[0]
            parts = [self.rendered(network, embeddings, [k]) for k in range(count)]
            x = torch.cat(parts)
            video = self.signal.kind == "video"
            whole.append(x.movedim(0, 1)[None] if video else x)
        return self.signal.prepared(torch.cat(whole))

    def synthesise(self, z_hat: Tensor, level: float) -> Tensor:
        return z_hat

    def opened(self, codes: Tensor) -> tuple[Network, Tensor | None]:
        """The network of codes (1, 1, n), and embeddings (N, d, *s) if it has any."""
        axes = self.axes
        *sizes, width = map(int, codes[0, 0, : axes + 1])
        network = self._network(sizes, abs(width))
        rest = codes[0, 0, axes + 1 :]
        tensors = message.opened(network, rest, packed=width < 0)
        embeddings = tensors.pop(message.EMBEDDINGS, None)
        network = network.without_encoder()
        network.load_state_dict(tensors, strict=False, assign=True)
        return network.to(codes.device).eval(), embeddings

    @torch.inference_mode()
    def rendered(
        self, network: Network, embeddings: Tensor | None, wanted: Sequence[int]
    ) -> Tensor:
        """Items (n, C, *S) of those numbers, in the range of the signal."""
        at = torch.tensor(wanted, device=self.device)
        x = network(at, None if embeddings is None else embeddings[at])
        cut: tuple[Any, ...] = (..., *(slice(n) for n in network.size[1:]))
        return self.signal.low + (self.signal.high - self.signal.low) * x[cut]

    def check_codes(self, codes: Tensor) -> None:
        axes = self.axes
        if codes.ndim != 3 or codes.shape[1] != 1 or codes.shape[2] <= axes + 1:
            raise InputError(
                f"codes have shape {tuple(codes.shape)}; expected (batch, 1, sizes, "
                "width, steps and weights)"
            )

    @ordinary
    def write(self, codes: Tensor, level: float, **given: Any) -> Coded:
        """See :meth:`Codec.write`; networks are coded one after the other."""
        context = streams.contexts_of(given.pop("context", b""), len(codes))
        write, pairs = super().write, zip(codes, context, strict=True)
        done = [write(row[None], level, context=own, **given) for row, own in pairs]
        for row, one in zip(codes, done, strict=True):
            said = one.codes[0, 0]
            if not torch.equal(said, row[0, : len(said)].to(said)):
                raise ModelError(
                    "the stream cannot hold a number of this network, which is beyond "
                    "16 bits; ask for a smaller file"
                )
            self._check_read(row[None], len(one.data[0]))
        return Coded(
            [item for one in done for item in one.data],
            message.together(one.codes for one in done),
            [bits for one in done for bits in one.estimated_bits],
        )

    @ordinary
    def read(
        self, data: Sequence[bytes], level: float, size: Sequence[int], **given: Any
    ) -> Tensor:
        """See :meth:`Codec.read`."""
        context = streams.contexts_of(given.pop("context", b""), len(data))
        read, pairs = super().read, zip(data, context, strict=True)
        return message.together(
            read([one], level, size, context=own) for one, own in pairs
        )

    def _encode(self, x: Tensor, level: float, plan: Plan | None) -> Tensor:
        self._check_precision()
        codes = self._analysed(x.to(self.device), level, plan or Plan())
        return self.quantize(codes, level)

    def _decode(self, codes: Tensor, level: float) -> Tensor:
        """See :meth:`Codec._decode`; signals are made whole, never in windows."""
        return self.signals(self.dequantize(codes, level), level)

    def _own_type(self) -> torch.dtype:
        return self.entropy.units.dtype

    def fit(self, x: Tensor, level: float, plan: Plan) -> Fit:
        """Fit a network to one signal (1, C, *S), in its range, as the plan says."""
        size = tuple(x.shape[2:])
        if self.signal.kind == "video" and size[0] > MOST_ITEMS:
            raise InputError(
                f"a clip of {size[0]} frames for one network; expected at most "
                f"{MOST_ITEMS}; cut it into groups"
            )
        bits = 8.0 * plan.bytes if plan.bytes else self.bits_of(level, size)
        width = width_within(
            lambda width: self.network_of(size, width),
            int(bits / self.depth),
            MOST_WIDTH,
        )
        # The random numbers of a process are shared by its threads; a fit has its own.
        with _ONE_AT_A_TIME, torch.random.fork_rng():
            torch.manual_seed(plan.seed)
            network = self.network_of(size, width)
            noise = torch.get_rng_state()
        network = network.to(self.device)
        fit = Fit(network, self.items(x), self.entropy, self.recipe, plan, bits, noise)
        fit.run()
        return fit

    def _fitted(self, x: Tensor, level: float, plan: Plan) -> Tensor:
        """Codes (1, 1, n) of one signal (1, C, *S)."""
        fit, most = self.fit(x, level, plan), plan.bytes
        sizes = x.shape[2:]

        def row(k: Tensor, parts: Sequence[message.Part]) -> Tensor:
            rest = message.row_of(k, parts)
            packed = any(isinstance(part, tuple) for part in parts)
            width = -fit.network.width if packed else fit.network.width
            head = torch.tensor([*sizes, width], device=rest.device).to(rest)
            return torch.cat([head, rest])[None, None]

        def bytes_of(k: Tensor, parts: Sequence[message.Part]) -> int:
            return len(self.write(row(k, parts), level).data[0])

        return row(*allocated(fit, bytes_of, most)).detach()

    def _check_read(self, codes: Tensor, size: int) -> None:
        """UsageError for a network that no decoder takes for a stream of ``size``."""
        *sizes, width = map(int, codes[0, 0, : self.axes + 1])
        least = least_bits(self._network(sizes, abs(width)))
        if 8 * size < least:
            raise UsageError(
                f"the network of this signal takes {size} bytes, too few for its "
                f"weights; expected {least / 8:.0f} at least; ask for a smaller file"
            )

    def _network(self, size: Sequence[int], width: int) -> Network:
        """A network without memory for its weights; BitstreamError for too large ones.

        A hostile width costs nothing.
        """
        limit = max(LEAST_LIMIT, torch.Size(size).numel())
        items = size[0] if self.signal.kind == "video" else 1
        if not 1 <= width <= MOST_WIDTH or items > MOST_ITEMS:
            raise BitstreamError(
                f"the stream asks for a network of width {width} for {items} items; "
                f"expected at most {MOST_WIDTH} and {MOST_ITEMS}; it is damaged"
            )
        network = on_meta(self.network_of, size, width)
        if network.values > limit:
            raise BitstreamError(
                f"the stream asks for {network.values} weights; expected at most "
                f"{limit}; it is damaged"
            )
        return network


def least_bits(network: Network) -> float:
    """Bits that a stream with this network has at least: a header may say anything."""
    return LEAST_BITS * max(0, network.values - LEAST_LIMIT)
