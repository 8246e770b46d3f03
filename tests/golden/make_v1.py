# SPDX-License-Identifier: Apache-2.0
"""How the files of `v1/` were made: by the package of commit 23bbb2c, and only by it.

    tiny codecs ── a few steps on synthetic signals ──► v1/weights/*.safetensors
    synthetic images and speech ── encode ────────────► v1/files/*.plc, *.npz
    what those decode to ─────────────────────────────► v1/index.json

The index has, for each file, its weights, the SHA-256 of the decoded integers (int32,
little-endian, chunk by chunk, each in C order; latents of images in sixteenths, which
is the grid of their means), of the alpha plane or its latents, of metadata, and mean
and deviation of the decoded samples. `tests/files/test_golden.py` reads all of it with
the package as it is now. To make it again:

    git worktree add /tmp/old 23bbb2c && pip install --target /tmp/site /tmp/old
    PYTHONPATH=/tmp/site python tests/golden/make_v1.py
"""

from __future__ import annotations

import hashlib
import io
import json
import pathlib
import shutil
import tempfile

import numpy as np
import soundfile
import torch
from sources_v1 import (
    IMAGES,
    RATE,
    SPEECH,
    TOKENS,
    picture,
    source_image,
    source_speech,
    speech,
)

from polycodec.codecs.files import api, api_speech, api_tokens
from polycodec.codecs.files.alpha import decode_alpha
from polycodec.codecs.files.container import Reader
from polycodec.codecs.files.speech_chunks import unpack_chunk
from polycodec.codecs.files.tiles import Grid
from polycodec.codecs.files.token_file import read_tokens
from polycodec.codecs.stored import load_codec
from polycodec.registry import build

HERE = pathlib.Path(__file__).parent / "v1"
GRID = 16  # of the latents of images
RAW = 10  # bytes before the stream of a compressed alpha plane: sizes and quality
SMALL = {"hyper": 8, "features": 8, "hidden": 8}
IMAGE_ENTROPY = {
    "context": {**SMALL, "slices": [2, 4, 6], "kernels": [5, 3, 3]},
    "hyperprior": SMALL,
    "checkerboard": SMALL,
    "channel": {**SMALL, "groups": 3},
    "factorized": {},
}
TRANSFORM = {
    "name": "residual",
    "widths": [8, 12],
    "analysis_depths": [1, 1, 1],
    "synthesis_depths": [1, 1, 1],
}
CONV = {"name": "conv", "width": 8}
SPECTRAL = {"name": "spectral", "widths": [8, 8], "depths": [1, 1]}


# --- codecs ------------------------------------------------------------------------


def image_codec(path: pathlib.Path, entropy: str) -> None:
    """A tiny image codec after 150 steps of training."""
    config = {
        "name": "latent",
        "channels": 12,
        "knots": 3,
        "transform": TRANSFORM if entropy not in ("factorized", "channel") else CONV,
        "entropy": {"name": entropy, **IMAGE_ENTROPY[entropy]},
    }
    torch.manual_seed(1)
    codec = build("codec/latent", **{k: v for k, v in config.items() if k != "name"})
    images = [picture(64, 64, 3, seed) for seed in range(8)]
    x = torch.from_numpy(np.stack(images)).float().permute(0, 3, 1, 2)
    codec.initialise(x)
    optimizer = torch.optim.Adam(codec.parameters(), 3e-3)
    for _ in range(150):
        level = 2 * torch.rand(len(x))
        out = codec(x, level)
        error = (out.x_hat - x).square().mean((1, 2, 3)) * 255**2
        loss = (out.bits / 64**2 + codec.lmbda_of(level) * error).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    codec.freeze(lambda c: [c(x, torch.full((len(x),), k)) for k in (0.0, 1.0, 2.0)])
    codec.save(path, config)


def signals() -> torch.Tensor:
    """(8, 1, 19200): eight seconds and a half to fit tables and codebooks to."""
    rows = [speech(1.2, 1, RATE, seed).T for seed in range(100, 108)]
    return torch.from_numpy(np.stack(rows)).float()


@torch.no_grad()
def louder(transform: torch.nn.Module) -> None:
    """Let an untrained synthesis be heard, so that wrong codes would be, too."""
    for layer in (transform.synthesis[0], transform.synthesis[-1]):
        layer.weight.mul_(4)


def token_codec(
    path: pathlib.Path, quantizer: dict, entropy: dict, fit: dict | None = None
) -> None:
    """A tiny token codec: codebooks of what an untrained transform yields."""
    config = {
        "name": "token",
        "channels": 8,
        "block": 10,
        "transform": SPECTRAL,
        "quantizer": quantizer,
    }
    x = signals()
    torch.manual_seed(2)
    bare = build("codec/token", **{k: v for k, v in config.items() if k != "name"})
    louder(bare.transform)
    with torch.no_grad():
        z = bare.eval().transform.g_a(x).float()
    bare.quantizer.initialise(z.transpose(1, 2).flatten(0, 1))
    found = getattr(bare.quantizer, "config_after_build", dict)()
    config = {**config, "quantizer": {**quantizer, **found}, "entropy": entropy}
    whole = build("codec/token", **{k: v for k, v in config.items() if k != "name"})
    whole.load_state_dict(bare.state_dict(), strict=False)
    whole.entropy.update()
    whole.save(path, config)
    whole = load_codec(path)  # in float16 now: these codes are final
    codes = [whole.encode_codes(item[None])[0].numpy() for item in x]
    whole.entropy.fit(codes, **(fit or {}))
    whole.entropy.update()
    whole.save(path, config)


def latent_codec(path: pathlib.Path) -> None:
    """A tiny codec of scalar latents of speech, whose contexts are random weights."""
    config = {
        "name": "latent-speech",
        "channels": 8,
        "levels": 4,
        "block": 10,
        "transform": SPECTRAL,
        "entropy": {"groups": 3, "frames": 3, "hidden": 24, "width": 16},
    }
    torch.manual_seed(3)
    options = {k: v for k, v in config.items() if k != "name"}
    codec, x = build("codec/latent-speech", **options), signals()
    louder(codec.transform)
    with torch.no_grad():
        codec.initialise(codec.transform.g_a(x).transpose(1, 2).flatten(0, 1))
        for layer in codec.entropy.out:
            layer.weight.normal_(0, 0.2)
        codec.freeze(
            lambda c: [c(x, torch.full((len(x),), k)) for k in range(1, c.levels + 1)]
        )
    codec.save(path, config)


RESIDUAL = {"name": "residual", "levels": 4, "codes": [32, 16, 16, 16]}
STRUCTURAL = {"name": "structural", "levels": 3, "codes": 24, "frames": 300}
FINITE = {"name": "finite", "levels": 3, "radix": [5, 4, 3]}
ADAPTIVE = {"name": "tokens-adaptive", "width": 8, "hidden": 24, "columns": 2}
ATTENTION = {"name": "tokens-transformer", "width": 8, "channels": 16, "heads": 2}
CODECS = {
    **{f"image-{e}": lambda p, e=e: image_codec(p, e) for e in IMAGE_ENTROPY},
    "speech-static": lambda p: token_codec(p, RESIDUAL, {"name": "tokens-static"}),
    "speech-adaptive": lambda p: token_codec(p, STRUCTURAL, ADAPTIVE, {"steps": 60}),
    "speech-attention": lambda p: token_codec(
        p, FINITE, {**ATTENTION, "window": 16}, {"steps": 40}
    ),
    "speech-latent": latent_codec,
}


# --- what files decode to ----------------------------------------------------------


def sha(*arrays: np.ndarray) -> str:
    """SHA-256 of arrays as little-endian int32 in C order, one after another."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).astype("<i4").tobytes())
    return digest.hexdigest()


def sixteenths(y_hat: torch.Tensor) -> np.ndarray:
    """Latents in units of their grid, on which they must lie."""
    scaled = (y_hat.double() * GRID).numpy()
    assert np.array_equal(scaled, np.rint(scaled))
    return scaled


def of_image(data: bytes, codec) -> dict:
    """Integers of a decoded image file, and its samples' mean and deviation."""
    reader = Reader(io.BytesIO(data))
    geometry = reader.header.geometry
    grid = Grid(geometry.height, geometry.width, geometry.tile)
    chunks = []
    for k in range(len(grid)):
        span = grid.span(k)
        size = codec.latent_size(span.bottom - span.top, span.right - span.left)
        chunks.append(sixteenths(codec.decode_latents([reader.chunk(k)], *size)))
    found = {"integers": sha(*chunks), "used": sum(int((c != 0).sum()) for c in chunks)}
    if (alpha := reader.header.record("alpha")) is not None:
        if alpha[0] < 6:
            plane = decode_alpha(alpha, geometry.width, geometry.height)
        else:
            size = codec.latent_size(geometry.height, geometry.width)
            stream = alpha[2 + RAW :]
            plane = sixteenths(codec.decode_latents([stream], *size))
        found["alpha"] = sha(plane)
    for name in ("icc", "exif", "xmp"):
        if (record := reader.header.record(name)) is not None:
            found[name] = hashlib.sha256(record).hexdigest()
    decoded, _ = api.read_plc(Reader(io.BytesIO(data)), codec=codec)
    return found | moments(decoded.pixels / ((1 << geometry.depth) - 1))


def of_speech(data: bytes, codec) -> dict:
    """Codes of a decoded speech file, and its samples' mean and deviation."""
    reader = Reader(io.BytesIO(data))
    geometry, chunks = reader.header.geometry, []
    frames, span = -(-geometry.coded_samples // codec.hop), geometry.span // codec.hop
    for k in range(reader.n_chunks):
        levels, streams = unpack_chunk(reader.chunk(k), geometry.channels)
        count = min(span, frames - k * span)
        chunks.append(codec.decode_tokens(streams, levels, count).numpy())
    out = io.BytesIO()
    api.decode(io.BytesIO(data), out, codec=codec)
    out.seek(0)
    found = {"integers": sha(*chunks), "used": sum(int((c != 0).sum()) for c in chunks)}
    return found | moments(soundfile.read(out)[0])


def moments(samples: np.ndarray) -> dict:
    return {
        "mean": round(float(samples.mean()), 5),
        "std": round(float(samples.std()), 5),
    }


def main() -> None:
    """Make everything."""
    shutil.rmtree(HERE, ignore_errors=True)
    (HERE / "weights").mkdir(parents=True)
    (HERE / "files").mkdir()
    api_speech.CHUNK_SECONDS = 1
    codecs, index = {}, {}
    for name, make in CODECS.items():
        path = HERE / "weights" / f"{name}.safetensors"
        make(path)
        codecs[name] = load_codec(path, name=name.replace("-", "/", 1))
        print(name, path.stat().st_size, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        for table, kind, write, read in (
            (IMAGES, "image", source_image, of_image),
            (SPEECH, "speech", source_speech, of_speech),
        ):
            for name, (part, spec, options) in table.items():
                source = write(scratch / f"{kind}-{name}.png", spec)
                target = HERE / "files" / f"{kind}-{name}.plc"
                codec = codecs[f"{kind}-{part}"]
                api.encode(source, target, codec=codec, **options)
                found = read(target.read_bytes(), codec)
                index[target.name] = {"weights": f"{kind}-{part}", **found}
                print(target.name, target.stat().st_size, found, flush=True)
    for name, of in TOKENS.items():
        target = HERE / "files" / f"speech-{name}.npz"
        weights = index[f"speech-{of}.plc"]["weights"]
        api_tokens.convert(
            HERE / "files" / f"speech-{of}.plc", target, codec=codecs[weights]
        )
        codes = read_tokens(io.BytesIO(target.read_bytes())).codes
        index[target.name] = {"weights": weights, "integers": sha(codes)}
    rows = (f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in index.items())
    (HERE / "index.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
