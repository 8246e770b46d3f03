# SPDX-License-Identifier: Apache-2.0
"""What every codec can do: one alphabet, whatever its family and its signal.

    x ─ analyse ─► z ─ quantize ─► codes ─ write ─► bytes
    x̂ ◄ synthesise ─ ẑ ◄ dequantize ─ codes ◄─ read ─┘          at a level: the rate

    training     codec(x, level)                        -> x_hat, bits
    export       codec.freeze(calibration)              -> certificates
    use          codec.compress(x, quality) -> list of bytes,  codec.decompress(bytes)

A family (`families/`) says how numbers become integers, a signal (`signals/`) what the
numbers are; neither knows the other. How weights are stored says `stored`, how signals
stand in files `chunked`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from polycodec.codecs.chunked import Chunked
from polycodec.codecs.ordinary import Coded, ordinary
from polycodec.codecs.refined import Refined, Watch
from polycodec.codecs.signals.base import Signal
from polycodec.codecs.signals.live import Live
from polycodec.codecs.stored import save_codec, with_new_names
from polycodec.codecs.strings import compressed, decompressed, latents
from polycodec.codecs.transforms import numbers
from polycodec.codecs.transforms.base import ImageTransform, Tiling, Transform
from polycodec.codecs.transforms.rate import Levels
from polycodec.entropy_models import streams
from polycodec.entropy_models.base import Coder, EntropyModel
from polycodec.entropy_models.coders import RangeDecoder, RangeEncoder
from polycodec.entropy_models.exact.layer import Certificate, freeze, observe
from polycodec.errors import ModelError, UsageError

if TYPE_CHECKING:
    from polycodec.codecs.fitting.plan import Plan


class Codec(Live, Chunked, nn.Module, abc.ABC):
    """Base of all codecs. ``name`` and ``digest`` are set when weights are loaded.

    A level is the rate as the family counts it, a number; `level_of` makes it of a
    quality. S are the sizes of a signal or of a grid of codes: (H, W) or (T,).
    """

    family: ClassVar[str]
    name = "unnamed"
    digest = b"\0\0\0\0"
    # Names of tensors in weights that exist, and what they are called now.
    renamed: ClassVar[Mapping[str, str]] = {}

    # Whether signals are fitted, as a plan says that a call may be given.
    fitted: ClassVar[bool] = False

    signal: Signal
    transform: Transform
    rates: Levels
    entropy: EntropyModel | None
    channels: int

    def __init__(self) -> None:
        super().__init__()
        self._register_load_state_dict_pre_hook(self._rename)

    @property
    def kind(self) -> str:
        """The kind of signal: "image", "speech" or "video"."""
        return self.signal.kind

    @property
    def ready(self) -> bool:
        """Whether tables are frozen, so that real bytes can be made."""
        return self.entropy is not None and bool(self.entropy.tables)

    @property
    def levels(self) -> int:
        """Number of levels; more of them are a finer rate."""
        return self.rates.levels

    def level_of(self, quality: float) -> float:
        """The level of a quality in 0 … 100; UsageError outside."""
        return self.rates.level_of(numbers.check_quality(quality))

    def check_level(self, level: float) -> float:
        """The level; UsageError for one that this codec has not."""
        return self.rates.check(level)

    @abc.abstractmethod
    def analyse(self, x: Tensor, level: float) -> Tensor:
        """Latents z (B, D, *S) of x (B, C, *S), padded and prepared by the signal."""

    @abc.abstractmethod
    def quantize(self, z: Tensor, level: float) -> Tensor:
        """What `write` codes, (B, C, *S), of latents z (B, D, *S)."""

    @abc.abstractmethod
    def code(
        self,
        coder: Coder,
        codes: Tensor | None,
        level: float,
        size: tuple[int, ...] | None = None,
        *,
        side: Tensor | None = None,
    ) -> Tensor:
        """Hand codes (B, C, *S) to any coder, or None and their (B, *S) to decode.

        Returns what a decoder will have. side: side information of the entropy model in
        place of its own.
        """

    @abc.abstractmethod
    def dequantize(self, codes: Tensor, level: float) -> Tensor:
        """Latents ẑ (B, D, *S) of decoded codes (B, C, *S)."""

    @abc.abstractmethod
    def synthesise(self, z_hat: Tensor, level: float) -> Tensor:
        """Signals (B, C, *S) of latents, for the signal to restore."""

    @abc.abstractmethod
    def check_codes(self, codes: Tensor) -> None:
        """InputError for codes that no encoder of this codec writes."""

    def latents_of(self, x: Tensor, level: float) -> Tensor:
        """Latents z (B, D, *S) of padded signals x; ModelError for NaN among them."""
        return numbers.made_by(self.name, self.analyse(self.signal.prepared(x), level))

    def signals(self, z_hat: Tensor, level: float) -> Tensor:
        """Signals (B, C, *S) of latents, not cut; ModelError for NaN among them."""
        return numbers.made_by(
            self.name, self.signal.restored(self.synthesise(z_hat, level))
        )

    def finest(self, z: Tensor) -> Tensor:
        """What codes of any level follow from (`coarsened`): for trial codings."""
        return z

    def coarsened(self, kept: Tensor, level: float) -> Tensor:
        """Codes at a level of what `finest` gave."""
        return self.quantize(kept, level)

    def least_bits(self, level: float, size: Sequence[int]) -> float:
        """Bits that no stream of such a grid can do without, where that is known."""
        return 0.0

    @property
    def stride(self) -> int:
        """Samples of the signal, along each axis, that a position of codes stands for.

        Of the grid of latents, unless a family folds several of them into one.
        """
        return self.transform.stride

    @property
    def tiling(self) -> Tiling:
        """How images may be cut; ModelError for a codec of other signals."""
        if not isinstance(self.transform, ImageTransform):
            raise ModelError(f"'{self.name}' has no transform of images")
        return self.transform.tiling

    def planes(self, level: float) -> int:
        """Planes C of the codes of a level."""
        return self.channels

    def padded(self, x: Tensor) -> Tensor:
        """Signals x (B, C, *S) with S up to multiples of the stride."""
        return self.signal.pad(x, self.stride)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """Sizes of the grid of codes of a signal of ``size``."""
        return self.transform.latent_size(*size)

    @ordinary
    def write(
        self,
        codes: Tensor,
        level: float,
        *,
        side: Tensor | None = None,
        context: streams.Contexts = b"",
        thrifty: bool = True,
    ) -> Coded:
        """Real bytes of codes (B, C, *S), one string for each item.

        context: what stands around all, or each, and must be the same for `read`.
        thrifty: whether codes may be rounded to cheaper ones (`coders.quantize`).
        """
        self._require_entropy()
        level = self.check_level(level)
        numbers.check_finite(codes)
        self.check_codes(codes)
        coder = self.writing(codes, thrifty)
        decoded = self.code(coder, codes, level, side=side)
        each = streams.contexts_of(context, len(codes))
        data = list(map(streams.sealed, coder.finish(), each))
        return Coded(data, decoded, coder.estimated_bits)

    @ordinary
    def read(
        self,
        data: Sequence[bytes],
        level: float,
        size: Sequence[int],
        *,
        context: streams.Contexts = b"",
    ) -> Tensor:
        """Codes (B, C, *S) from the bytes of items whose grid has ``size`` S."""
        self._require_entropy()
        streams.check_holds(data, self.least_bits(level, size))
        coder = self.reading(data, context)
        codes = self.code(coder, None, level, (len(data), *size))
        coder.finish()
        return codes

    def writing(self, codes: Tensor, thrifty: bool) -> Any:
        """What `write` hands to `code`: with `finish` and `estimated_bits`."""
        entropy = self._require_entropy()
        return RangeEncoder(
            len(codes),
            device="cpu" if entropy.host else codes.device,
            estimate=True,
            serial=entropy.serial,
            thrifty=thrifty,
        )

    def reading(self, data: Sequence[bytes], context: streams.Contexts) -> Any:
        """What `read` hands to `code`: with `finish`, which checks the end."""
        device = "cpu" if self._require_entropy().host else self.device
        return RangeDecoder(data, device=device, context=context)

    @ordinary
    def encode_codes(
        self, x: Tensor, level: float, *, plan: Plan | None = None
    ) -> Tensor:
        """Codes (B, C, *S) of whole signals x; InputError for samples that are none.

        plan: how each is fitted, of a family that fits.
        """
        return self._encode(self.signal.checked(x), level, plan)

    def _encode(self, x: Tensor, level: float, plan: Plan | None) -> Tensor:
        """Codes of checked signals."""
        self._check_precision()
        if plan is not None:
            raise UsageError(
                f"codec/{self.family} fits nothing to a signal; leave the plan out"
            )
        return self.signal.encode(self, x.to(self.device), self.check_level(level))

    @ordinary
    def decode_codes(
        self, codes: Tensor, level: float, size: Sequence[int] | None = None
    ) -> Tensor:
        """Signals of codes (B, C, *S), cut to ``size`` and clamped if it is given."""
        self._check_precision()
        numbers.check_finite(codes)
        self.check_codes(codes)
        x_hat = self._decode(codes, self.check_level(level))
        return x_hat if size is None else self.signal.cut(x_hat, size)

    def _decode(self, codes: Tensor, level: float) -> Tensor:
        """Signals of checked codes, not cut."""
        return self.signal.decode(self, codes, level)

    @ordinary
    def compress(
        self,
        x: Tensor | Sequence[Tensor],
        quality: float = 50.0,
        *,
        plan: Plan | None = None,
    ) -> list[bytes]:
        """Signals x -> a list of B byte strings; they are no .plc files.

        x: (B, 3, H, W) in [0, 1] for images, (B, 1, T) in [-1, 1] for speech; of one
        signal also without B, 8-bit images and 16-bit speech as they are. Or a list of
        such, of any sizes. plan: how each is fitted, of a family that fits.
        """
        return compressed(self, x, quality, plan)

    @ordinary
    def decompress(self, data: bytes | Sequence[bytes]) -> Tensor | Any:
        """Byte strings -> their signals, clamped: one tensor (B, C, *S).

        Of signals of several sizes: a list of tensors (1, C, *S), in the same order.
        """
        return decompressed(self, data)

    @ordinary
    def latents(
        self, data: bytes | Sequence[bytes], *, dequantized: bool = False
    ) -> Tensor | Any:
        """Codes (B, C, *S) of byte strings, for networks that learn from them.

        Nothing is synthesised. Of the latent family they are latents in steps of each
        string's quality; of the token family tokens, a plane a codebook; of fitted
        networks the one row of their numbers. int32 where they are whole numbers, as of
        what ships; float32 where they lie around means of 1/16 (`prior/gaussian`).
        ``dequantized``: latents (B, D, *S) float32 instead, in the same units at any
        quality. A list, as `decompress` has it, for strings of several sizes.
        """
        return latents(self, data, dequantized)

    def refine(
        self,
        x: Tensor,
        codes: Tensor,
        level: float,
        steps: int,
        watch: Watch | None = None,
    ) -> Refined:
        """Codes fitted to this very signal, by ``steps``; see `families.search`.

        UsageError for a family that has no search at encoding.
        """
        raise UsageError(
            f"codec/{self.family} has no search at encoding; leave --effort out"
        )

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Start from signals x before training; a family may do nothing."""
        return

    @torch.no_grad()
    def freeze(self, calibrate: Callable[[Any], Any]) -> list[Certificate]:
        """Put the entropy path on integers; returns the certificate of each layer.

        ``calibrate`` runs the codec on typical input: the largest values seen fix
        the grids. Afterwards the codec can code, and is no longer trained.
        """
        self.eval()
        observe(self, True)
        calibrate(self)
        observe(self, False)
        if self.entropy is not None:
            self.entropy.update()
        return freeze(self)

    def save(self, path: str | Path, config: dict[str, Any]) -> str:
        """Write the frozen codec; ``config`` rebuilds it. Returns the digest, hex."""
        self._require_entropy()
        return save_codec(self, path, config)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def _rename(self, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
        if not prefix and self.renamed:
            renamed = with_new_names(self, state)
            state.clear()
            state.update(renamed)

    def _own_type(self) -> torch.dtype:
        """The type of the weights that compute with floats."""
        weights = next(self.transform.parameters(), None)
        return torch.float32 if weights is None else weights.dtype

    def _check_precision(self) -> None:
        """Refuse what would end in a wrong decoding or an error deep inside torch."""
        numbers.check_precision(self._own_type())

    def _require_entropy(self) -> EntropyModel:
        self._check_precision()
        if self.entropy is None or not self.ready:
            raise ModelError(
                "this codec has no tables yet; export its run, or load exported weights"
            )
        return self.entropy
