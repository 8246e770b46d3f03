# SPDX-License-Identifier: Apache-2.0
"""The latent family: scalar latents of a transform, rounded and coded.

    x ── g_a ──► y ── ·gain(level) ──[ entropy model: code(coder, y) ]── ŷ
    x̂ ◄─ g_s ──── ·inverse gain(level) ────────────────────────────────┘

A codec here is a composition: any `transform/*` with any `entropy/*` of as many
channels. Nothing in this file knows a particular system, and training, encoding
and decoding differ only in the coder that `entropy.code` is handed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.transforms.rate import RateScale
from polycodec.entropy_models.coders import RangeDecoder, RangeEncoder, RateEstimator
from polycodec.errors import BitstreamError, ModelError, TruncatedError, UsageError
from polycodec.registry import build, register

RAW = struct.Struct("<IIH")  # BITSTREAM: height, width, 100 x quality
MAX_PIXELS = 1 << 28
REFINE_RATE = 0.05  # of Adam on latents, whose unit is a quantization step


@dataclass
class CodecOutput:
    """What training sees: x_hat (B, 3, H, W) in [0, 1] and bits (B,)."""

    x_hat: Tensor
    bits: Tensor


@dataclass
class CodedLatents:
    """What encoding yields, per image of the batch."""

    data: list[bytes]
    y_hat: Tensor
    estimated_bits: list[float]


@register("codec/latent")
class LatentCodec(Codec):
    """A transform and an entropy model of matching width.

    ``lmbda``: the two ends of the rate range; level k of K trades distortion
    against rate with λ_k = λ_0 (λ_1/λ_0)^(k/(K-1)) in  bpp + λ 255² MSE.
    """

    kind = "image"

    def __init__(
        self,
        *,
        channels: int = 192,
        transform: dict | None = None,
        entropy: dict | None = None,
        knots: int = 8,
        lmbda: tuple[float, float] = (0.0008, 0.25),
    ) -> None:
        super().__init__()
        transform = {"name": "residual", **(transform or {})}
        entropy = {"name": "context", **(entropy or {})}
        _check_rates(knots, lmbda)
        names = f"transform/{transform.pop('name')}", f"entropy/{entropy.pop('name')}"
        shared = {"channels": channels, "knots": knots}
        self.transform = build(names[0], **{**shared, **transform})
        self.entropy = build(names[1], **{"channels": channels, **entropy})
        _check_fit(names, self.transform, self.entropy, shared)
        self.gain = RateScale(channels, knots)
        self.inverse_gain = RateScale(channels, knots)
        self.knots, self.lmbda = knots, tuple(lmbda)
        # The best uniform step is proportional to λ^-½ (high-rate theory).
        start = 0.5 * torch.log(self.lmbda_of(torch.arange(float(knots))) / 0.0067)
        self.gain.log_scale.data += start[:, None] + 1.4
        self.inverse_gain.log_scale.data -= start[:, None] + 1.4

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Start from data x (B, 3, H, W): a linear transform and its scales."""
        if hasattr(self.transform, "initialise"):
            self.transform.initialise(x - 0.5)
            y = self.analyse(x, self.level_of(50, x.shape[0]))
            self.entropy.initialise(y.std(dim=(0, 2, 3)))

    def lmbda_of(self, level: Tensor) -> Tensor:
        """λ of a level in [0, knots - 1]."""
        low, high = self.lmbda
        return low * (high / low) ** (level / (self.knots - 1))

    def level_of(self, quality: float, batch: int = 1) -> Tensor:
        """Levels (B,) of a quality in [0, 100]; UsageError outside."""
        if not 0 <= quality <= 100:
            raise UsageError(f"quality is {quality}; expected 0 to 100")
        device = self.gain.log_scale.device
        level = quality / 100 * (self.knots - 1)
        return torch.full((batch,), level, device=device)

    def analyse(self, x: Tensor, level: Tensor) -> Tensor:
        """Latents y (B, M, h, w) of x (B, 3, H, W) in [0, 1], gained."""
        x = (x - 0.5).contiguous(memory_format=torch.channels_last)
        return self.gain(self.transform.g_a(x, level), level)

    def synthesise(self, y_hat: Tensor, level: Tensor) -> Tensor:
        """Image (B, 3, H, W), not clamped, of decoded latents."""
        y = self.inverse_gain(y_hat, level)
        y = y.contiguous(memory_format=torch.channels_last)
        return self.transform.g_s(y, level) + 0.5

    def forward(self, x: Tensor, level: Tensor) -> CodecOutput:
        """Train: x (B, 3, H, W) with sides divisible by the stride, level (B,)."""
        y = self.analyse(x, level)
        coder = RateEstimator(x.shape[0], noise=self.training)
        size = (y.shape[0], *y.shape[2:])
        y_hat = self.entropy.code(coder, y.float(), size)
        return CodecOutput(self.synthesise(y_hat, level), coder.bits)

    def pad(self, x: Tensor) -> Tensor:
        """Repeat the last row and column up to a multiple of the stride."""
        stride, (h, w) = self.transform.stride, x.shape[-2:]
        return F.pad(x, (0, -w % stride, 0, -h % stride), mode="replicate")

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the latents of an image."""
        stride = self.transform.stride
        return -(-height // stride), -(-width // stride)

    @torch.enable_grad()
    def refine(self, x: Tensor, y: Tensor, level: Tensor, steps: int) -> Tensor:
        """Latents for this very image: ``steps`` of descent on its own rate-distortion.

        x (1, 3, H, W) padded, y = analyse(x) (1, M, h, w), level (1,). The decoder is
        unchanged. Returns the best y met, by the loss of the rounded latents; at worst
        the one given. Campos et al. 2019, "Content adaptive optimization for neural
        image compression" (arXiv 1906.01223).
        """
        weight = self.lmbda_of(level) * 255**2
        y = y.clone().requires_grad_()
        optimizer = torch.optim.Adam([y], lr=REFINE_RATE)
        best, best_loss = y.detach().clone(), torch.inf
        for step in range(steps + 1):
            coder = RateEstimator(1, noise=False)
            y_hat = self.entropy.code(coder, y, (1, *y.shape[2:]))
            mse = (self.synthesise(y_hat, level).clamp(0, 1) - x).square().mean()
            loss = coder.bits.sum() / (x.shape[-1] * x.shape[-2]) + weight * mse
            if loss.item() < best_loss:
                best, best_loss = y.detach().clone(), loss.item()
            if step < steps:
                (y.grad,) = torch.autograd.grad(loss, [y])
                optimizer.step()
        return best

    @torch.inference_mode()
    def encode_latents(self, y: Tensor) -> CodedLatents:
        """Real bytes of gained latents y (B, M, h, w), one item per image."""
        self._require_ready()
        coder = RangeEncoder(y.shape[0], device=y.device, estimate=True)
        size = (y.shape[0], *y.shape[2:])
        y_hat = self.entropy.code(coder, y.float(), size)
        return CodedLatents(coder.finish(), y_hat, coder.estimated_bits)

    @torch.inference_mode()
    def decode_latents(self, data: Sequence[bytes], h: int, w: int) -> Tensor:
        """Latents (B, M, h, w) from the bytes of images of one size."""
        self._require_ready()
        coder = RangeDecoder(data, device=self.gain.log_scale.device)
        y_hat = self.entropy.code(coder, None, (len(data), h, w))
        coder.finish()
        return y_hat

    @torch.inference_mode()
    def compress(self, x: Tensor, quality: float = 50.0) -> list[bytes]:
        """Images x (B, 3, H, W) float in [0, 1] -> a list of B byte strings."""
        quality = round(100 * quality) / 100  # as the header will say
        level = self.level_of(quality, x.shape[0])
        y = self.analyse(self.pad(x.float()), level)
        head = RAW.pack(*x.shape[-2:], round(100 * quality))
        return [head + item for item in self.encode_latents(y).data]

    @torch.inference_mode()
    def decompress(self, data: Sequence[bytes]) -> Tensor:
        """Byte strings of images of one size -> (B, 3, H, W) float in [0, 1]."""
        heads = {_raw_header(item) for item in data}
        if len(heads) != 1:
            raise BitstreamError("images of several sizes or rates; decompress each")
        height, width, quality = heads.pop()
        level = self.level_of(quality, len(data))
        streams = [item[RAW.size :] for item in data]
        y_hat = self.decode_latents(streams, *self.latent_size(height, width))
        return self.synthesise(y_hat, level)[..., :height, :width].clamp(0, 1)

    @staticmethod
    def size_of(data: bytes) -> tuple[int, int]:
        """(H, W) that a compressed image announces."""
        return _raw_header(data)[:2]

    def _require_ready(self) -> None:
        if not self.ready:
            raise ModelError(
                "this codec's tables are not frozen; export the run first, or load "
                "exported weights"
            )


def _check_rates(knots: int, lmbda: Sequence[float]) -> None:
    """Refuse a rate range that is none."""
    if knots < 2:
        raise ModelError(f"knots is {knots}; a rate range needs at least 2")
    if len(lmbda) != 2 or not 0 < lmbda[0] < lmbda[1]:
        raise ModelError(
            f"lmbda is {tuple(lmbda)}; expected two numbers, the ends of the rate "
            "range, 0 < low < high"
        )


def _check_fit(names: tuple[str, str], transform, entropy, shared: dict) -> None:
    """Refuse parts of other signals or widths, naming both sides and both numbers."""
    for name, part in zip(names, (transform, entropy), strict=True):
        if getattr(part, "kind", "image") != "image":
            raise ModelError(
                f"{name} is a part for {part.kind}, codec/latent codes images; take "
                "another part, or the codec of that kind"
            )
    if transform.channels != entropy.channels:
        raise ModelError(
            f"{names[0]} yields {transform.channels} latent channels, {names[1]} codes "
            f"{entropy.channels}; give both the same 'channels'"
        )
    for side, part, what in (
        (names[0], transform, "channels"),
        (names[0], transform, "knots"),
        (names[1], entropy, "channels"),
    ):
        if getattr(part, what) != shared[what]:
            raise ModelError(
                f"{side} has {getattr(part, what)} {what}, the codec around it "
                f"{shared[what]}; leave '{what}' to the codec"
            )


def _raw_header(data: bytes) -> tuple[int, int, float]:
    """(height, width, quality) of a compressed image, checked."""
    if len(data) < RAW.size:
        raise TruncatedError(
            f"a compressed image has {len(data)} bytes; expected at least {RAW.size}"
        )
    height, width, quality = RAW.unpack_from(data)
    if not 0 < height * width <= MAX_PIXELS or quality > 10000:
        raise BitstreamError(
            f"the header asks for {width}x{height} at quality {quality / 100}; "
            f"expected at most {MAX_PIXELS} pixels and quality 100"
        )
    return height, width, quality / 100
