# SPDX-License-Identifier: Apache-2.0
"""Tokens of pictures: their bytes by three entropy models, their quality, stability.

    python docs/checks/picture_tokens.py WEIGHTS... --pictures DIR -o FILE.json

For each of the weights, such as image/mcquic-small at three values of m, means over the
pictures: bits a pixel of whole files, PSNR, MS-SSIM; real bytes of the streams by the
model in the weights, by its order-0 tables alone, and by codes of fixed width (whole
bits of a code that is sent); processor seconds of encoding and decoding. Then how many
codes differ between a picture alone, in a batch of 7, in tiles of 128 where there are
tiles, and with 2 threads; fails where one does. `--beside` runs image/default too.

Seconds a picture and weights: about 20 codings of it.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import polycodec
from polycodec.codecs.base import Codec
from polycodec.codecs.families.token import TokenCodec
from polycodec.codecs.measures import image as measures
from polycodec.codecs.signals.grid import Span
from polycodec.codecs.signals.tiles import TileEncoder
from polycodec.codecs.stored import load_codec
from polycodec.entropy_models.coders import RangeEncoder
from polycodec.registry import build

TILE, BATCH = 128, 7


def file_of(codec: Codec, path: Path, quality: float) -> dict[str, float]:
    """Bits a pixel, quality and processor seconds of one file."""
    x = np.asarray(Image.open(path).convert("RGB"))
    file, back = io.BytesIO(), io.BytesIO()
    started = time.process_time()
    polycodec.encode(path, file, codec=codec, quality=quality)
    between = time.process_time()
    file.seek(0)
    polycodec.decode(file, back, codec=codec)
    ended = time.process_time()
    back.seek(0)
    x_hat = np.asarray(Image.open(back).convert("RGB"))
    return {
        "bpp": 8 * len(file.getvalue()) / x[..., 0].size,
        "psnr": measures.psnr(x, x_hat),
        "ms_ssim": measures.ms_ssim(x, x_hat)[0],
        "encode_seconds": between - started,
        "decode_seconds": ended - between,
    }


def streams_of(codec: TokenCodec, codes: torch.Tensor, level: float) -> dict[str, int]:
    """Bytes of codes (1, L, h, w) by the weights' model, order 0 and fixed width."""
    assert codec.entropy is not None
    found = {"model": len(codec.write(codes, level).data[0])}
    if not any(codec.quantizer.when):  # with a map, order 0 would pay for what is not
        sizes, alike = codec.quantizer.sizes, codec.quantizer.alike
        static = build("entropy/tokens-static", sizes=sizes, alike=alike)
        static.tables = {"order0": codec.entropy.table("order0")}
        coder = RangeEncoder(1)
        static.code(coder, codes, tuple(codes.shape))
        found["order0"] = len(coder.finish()[0])
    sent = codec.quantizer.sent(codes).sum((0, 2, 3)).tolist()
    pairs = zip(sent, codec.quantizer.sizes, strict=False)
    bits = sum(n * math.ceil(math.log2(k)) for n, k in pairs)
    return found | {"fixed": math.ceil(bits / 8)}


def unstable(codec: TokenCodec, x: torch.Tensor, level: float) -> dict[str, int]:
    """How many codes of x (1, 3, H, W) differ, and how many there are."""
    alone = codec.encode_codes(x, level)
    others = [x.roll(k, 3).flip(2) for k in range(BATCH - 1)]
    batch = codec.encode_codes(torch.cat([*others[:3], x, *others[3:]]), level)[3:4]
    found = {"codes": alone.numel(), "batch": int((batch != alone).sum())}
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    found["threads"] = int((codec.encode_codes(x, level) != alone).sum())
    torch.set_num_threads(threads)
    if codec.tiling.reach is not None:
        pixels = (x[0].permute(1, 2, 0) * 255).round().byte().numpy()
        side = math.lcm(TILE, codec.tiling.grid)
        encoder = codec.image_encoder(pixels, 255, side)
        assert isinstance(encoder, TileEncoder)
        wrong = 0
        for k in range(len(encoder.grid)):
            span: Span = encoder.grid.span(k).scaled(codec.stride)
            rows, columns = span.slices
            wrong += int((encoder.codes(k, level) != alone[:, :, rows, columns]).sum())
        found["tiles"] = wrong
    return found


def measured(codec: Codec, pictures: list[Path], quality: float) -> dict[str, Any]:
    """Means of files, and sums of streams and of codes that differ."""
    rows = [file_of(codec, path, quality) for path in pictures]
    result: dict[str, Any] = {
        key: sum(row[key] for row in rows) / len(rows) for key in rows[0]
    }
    if isinstance(codec, TokenCodec):
        level = codec.level_of(quality)
        sums: dict[str, int] = {}
        for path in pictures:
            pixels = np.asarray(Image.open(path).convert("RGB"))
            x = torch.from_numpy(pixels.copy()).movedim(2, 0)[None] / 255
            found = streams_of(codec, codec.encode_codes(x, level), level)
            found |= {f"of_{k}": n for k, n in unstable(codec, x, level).items()}
            sums = {k: sums.get(k, 0) + n for k, n in found.items()}
        result |= sums
    return result


def main() -> None:
    """Measure all; exit with 1 where a code differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--quality", type=float, default=50.0)
    parser.add_argument("--beside", action="store_true", help="image/default as well")
    parser.add_argument("-o", dest="out", type=Path, required=True)
    given = parser.parse_args()
    pictures = sorted(given.pictures.glob("*.png"))
    codecs = {str(path): load_codec(path, name=path.stem) for path in given.weights}
    if given.beside:
        codecs["image/default"] = polycodec.load("image/default")
    results = {}
    for name, codec in codecs.items():
        results[name] = measured(codec, pictures, given.quality)
        print(name, json.dumps(results[name]), flush=True)
    given.out.write_text(json.dumps(results, indent=1))
    keys = ("of_batch", "of_threads", "of_tiles")
    wrong = {n: r for n, r in results.items() if any(r.get(k) for k in keys)}
    if wrong:
        sys.exit(f"codes differ: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
