# SPDX-License-Identifier: Apache-2.0
"""What an exported codec must do before it may be called one.

    latents   real bytes decode to the encoder's latents, bit for bit
    bytes     real bytes <= 1.01 estimate + 64, for every image
    sizes     odd sizes down to 1x1 come back
    exact     the same latents from other batches, layouts, kernels and threads

Run on the weights as they are in the file, read back, never on those in memory. The
rate and distortion it measures on the way are those of real bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from polycodec.codecs.base import Codec
from polycodec.codecs.measures.image import psnr_of_mse
from polycodec.errors import CodecError
from polycodec.train.check import MACHINES, check_bytes, failed

BATCH = 4
ODD_SIZES = ((37, 53), (1, 1), (64, 17))


def self_check(
    codec: Codec,
    x: Tensor,
    qualities: Sequence[float],
    progress: Callable[[str], None],
) -> list[dict[str, float]]:
    """Code held-out images x (n, 3, H, W) at every quality; ModelError if one fails.

    Returns per quality the real and the estimated bpp and the PSNR of 8-bit pictures.
    """
    rows = []
    for quality in qualities:
        row = _measure(codec, x, quality)
        progress(
            f"quality {quality:g}: {row['bpp']:.3f} bpp (estimate "
            f"{row['estimated_bpp']:.3f}), {row['psnr']:.2f} dB"
        )
        rows.append(row)
    for height, width in ODD_SIZES:
        _check_size(codec, x[:1, :, :height, :width])
    progress(f"sizes {', '.join(f'{w}x{h}' for h, w in ODD_SIZES)}: back again")
    middle = qualities[len(qualities) // 2]
    for name in _check_machines(codec, x[:BATCH], middle):
        progress(f"exact: {name}")
    return rows


@torch.inference_mode()
def _measure(codec: Codec, x: Tensor, quality: float) -> dict[str, float]:
    count, total, estimated, psnr = x.shape[0], 0, 0.0, 0.0
    for part in x.split(BATCH):
        level = codec.level_of(quality)
        coded = codec.write(codec.encode_codes(part, level), level)
        found = _decoded(codec, coded.data, level, part, f"quality {quality:g}")
        _same(found, coded.codes, f"latents at quality {quality:g}")
        for data, bits in zip(coded.data, coded.estimated_bits, strict=True):
            check_bytes(len(data), bits, f"quality {quality:g}")
            total, estimated = total + 8 * len(data), estimated + bits
        x_hat = codec.signal.decode(codec, found, level).clamp(0, 1)
        mse = ((x_hat * 255).round() / 255 - part).square().mean(dim=(1, 2, 3))
        psnr += float(psnr_of_mse(mse).sum()) / count
    pixels = count * x.shape[-1] * x.shape[-2]
    bpp, estimate = total / pixels, estimated / pixels
    return {"quality": quality, "bpp": bpp, "estimated_bpp": estimate, "psnr": psnr}


def _check_size(codec: Codec, x: Tensor) -> None:
    height, width = x.shape[-2:]
    where = f"size {width}x{height}"
    try:
        back = codec.decompress(codec.compress(x, 50))
    except CodecError as error:
        raise failed("sizes", f"{where}: {error}") from error
    if back.shape != x.shape or not bool(back.isfinite().all()):
        raise failed("sizes", f"{where} came back as {tuple(back.shape)}")


@torch.inference_mode()
def _check_machines(codec: Codec, x: Tensor, quality: float) -> Iterator[str]:
    """Decode what one way of computing wrote in all others; yields their names."""
    level = codec.level_of(quality)
    codes = codec.encode_codes(x, level)
    coded = codec.write(codes, level)
    for name, setting in MACHINES.items():
        with setting():
            found = _decoded(codec, coded.data, level, x, name)
        _same(found, coded.codes, name)
        yield name
    for i, data in enumerate(coded.data):
        one = _decoded(codec, [data], level, x, "one image at a time")
        _same(one[0], coded.codes[i], "one image at a time")
    yield "one image at a time"
    last = codes.contiguous(memory_format=torch.channels_last)
    if codec.write(last, level).data != coded.data:
        raise failed("exact", "channels_last latents give other bytes")
    yield "channels_last"


def _decoded(
    codec: Codec, data: list[bytes], level: float, x: Tensor, where: str
) -> Tensor:
    try:
        return codec.read(data, level, codec.grid(x.shape[-2:]))
    except CodecError as error:
        raise failed("latents", f"{where}: {error}") from error


def _same(found: Tensor, expected: Tensor, where: str) -> None:
    if not torch.equal(found, expected):
        share = float((found != expected).float().mean())
        raise failed("latents", f"{where}: {100 * share:.2f} % of them differ")
