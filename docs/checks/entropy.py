# SPDX-License-Identifier: Apache-2.0
"""Entropy models compared without training codecs: on latents of a frozen transform.

    python docs/checks/entropy.py OUT --images FOLDER --steps 600 \\
        --variant today= \\
        --variant hyperprior="codec.entropy.name=hyperprior codec.entropy.hyper=96" \\
        --variant factorized="codec.entropy.name=factorized"
    python docs/checks/entropy.py OUT --images FOLDER --preset s2lic --only today,s2lic

    crops ── g_a of image/default, gains ──► latents, cached once
                                               │ equal batches, equal steps, fresh model
                                               ▼
    entropy model of each variant ──► exported ──► real bytes of held-out crops, ms

A variant is a name and overrides of the config, as `polycodec train` takes them; what
is not overridden is the default's. A preset is a file of them in `variants`. Distortion
is that of the transform, so the bits are the verdict: the encoder's thrift, by which a
model may trade error for bits, is off while they are counted. A model that predicts
residuals (`residual`) changes the decoded latents, for better or worse: there training
also counts their error (PER_ERROR), and the verdict is the BD-rate. A variant that was
exported into OUT is not trained again. With `--trained` every model starts at the
trained one of the transform's codec, as far as it fits, and latents are rounded as its
encoder rounds them: by the BD-rate the table then says what a model adds to it. Models
that start at nothing are told apart by how fast they learn, too. Prints a table, and
writes it to OUT/entropy.json. With `imports=[...]` among the overrides, a model may
live outside the package.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from polycodec.codecs import zoo
from polycodec.codecs.base import Codec
from polycodec.codecs.families.latent import LatentCodec
from polycodec.codecs.measures.image import psnr_of_mse
from polycodec.codecs.stored import load_codec
from polycodec.entropy_models import coders
from polycodec.eval import bdrate
from polycodec.eval.text import Table, aligned
from polycodec.registry import register
from polycodec.train.config import TrainConfig, load_config
from polycodec.train.export import export
from polycodec.train.image.data import CropSource, ImageCache
from polycodec.train.image.task import BALANCE_POINT, draw_levels
from polycodec.train.loop import Trainer
from polycodec.train.start import init_from
from polycodec.train.task import Task, made_for

CONFIG = "image/default"
QUALITIES = (15.0, 40.0, 65.0, 90.0)
POINT = ("bpp", "psnr")
PRESETS = Path(__file__).with_name("variants")
SEED = 10
TURNS = 3  # of decoding; the best one counts
# Bits that a squared error of one, in steps, is worth. At the step's best size bits and
# distortion trade evenly: with Δ² w / 12 of distortion d/d ln Δ is w / 6 where w is the
# worth, and an integer costs 1 / ln 2 bits less. Noise on the decoded latents of
# image/default that are not 0 cost 8.7 to 11.1 bits of λ 255² MSE, by quality.
PER_ERROR = 6 / math.log(2)


@functools.cache
def frozen(checkpoint: str | None = None) -> Codec:
    """Return the codec whose transform and gains everybody shares."""
    return zoo.load(CONFIG, checkpoint=checkpoint).requires_grad_(False)


class Latents:
    """Latents of crops, y (count, M, h, w) float32 and their levels, cached in a file.

    A file is of one codec, folder, seed, side and count: all are in its name.
    """

    def __init__(self, codec: Codec, source: CropSource, count: int, out: Path) -> None:
        key = f"{codec.digest.hex()}-{source.crop}-{source.seed}-{count}"
        path = out / f"latents-{key}-{len(source.train)}.npy"
        torch.manual_seed(source.seed)
        self.levels = draw_levels(count, codec.levels - 1)
        if not path.is_file():
            side = source.crop // codec.stride
            shape = (count, codec.channels, side, side)
            part = path.with_suffix(".part")
            kept = np.lib.format.open_memmap(part, "w+", np.float32, shape)
            for start in range(0, count, source.batch):
                x = source.batch_at(start // source.batch)[0]
                for at, crop in enumerate(x[: count - start], start):
                    kept[at] = latents_of(codec, crop[None], float(self.levels[at]))[0]
            kept.flush()
            part.rename(path)
        self.values = np.load(path, mmap_mode="r")

    def batch(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        """Return y (B, M, h, w) and levels (B,) of a step, the same for everybody."""
        rng = np.random.default_rng([SEED, step])
        chosen = rng.integers(len(self.values), size=size)
        return torch.from_numpy(self.values[chosen]), self.levels[chosen]


@torch.inference_mode()
def latents_of(codec: Codec, x: Tensor, level: float) -> Tensor:
    """Latents y (B, M, h, w) of images x (B, 3, H, W), in quantization steps."""
    z = codec.analyse(codec.signal.prepared(codec.padded(x)), level)
    return codec.quantize(z, level)


@register("task/image/cached-latents")
class LatentsTask(Task):
    """Trains the entropy model alone, on cached latents: bits a pixel go down.

    And the error of what is decoded, where a model predicts residuals.
    """

    family = LatentCodec

    count = 1024  # of cached crops
    checkpoint: str | None = None
    trained = False  # whether models start at that of the checkpoint

    @property
    def codec(self) -> LatentCodec:
        return made_for(LatentCodec, super().codec)

    def prepare(self, codec: Codec) -> None:
        if self.trained:
            init_from(codec, self.checkpoint or CONFIG)
        base = frozen(self.checkpoint)
        shared = {
            name: value
            for name, value in base.state_dict().items()
            if name.startswith(("transform.", "rates."))
        }
        codec.load_state_dict(shared, strict=False)
        assert codec.entropy is not None
        codec.transform.requires_grad_(False)
        codec.rates.requires_grad_(False)
        out = Path(self.config.run.out).parent
        self.latents = Latents(base, self._source(), self.count, out)
        if self.trained:
            return  # its scales are there
        middle = (self.latents.levels - codec.level_of(50)).abs().argsort()[:64]
        sample = torch.from_numpy(self.latents.values[np.sort(middle.numpy())])
        codec.entropy.initialise(sample.std(dim=(0, 2, 3)))

    def _source(self) -> CropSource:
        data = self.config.data
        images = ImageCache(data.train, data.cache, self.log.decoding)
        held_out = {"seed": SEED, "holdout": data.holdout}
        return CropSource(images, crop=data.crop, batch=8, **held_out)

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        y, level = self.latents.batch(step, self.config.data.batch)
        torch.manual_seed(SEED + step)  # the noise of this step
        with self.precision():
            bits, error = estimated(self.codec, y, noise=not self.trained)
        pixels = y.shape[2] * y.shape[3] * self.codec.stride**2
        weight = (BALANCE_POINT / self.codec.lmbda_of(level)) ** 0.5
        # Of rounding alone it is the same for every model, and no gradient's business.
        cost = bits + PER_ERROR * error if self.predicts else bits
        penalty = self.codec.entropy.penalty()
        loss = (weight * cost / pixels).mean() + (0 if penalty is None else penalty)
        values = {"bpp": bits / pixels, "error": error / y[0].numel()}
        return loss, {name: value.detach().mean() for name, value in values.items()}

    @property
    def predicts(self) -> bool:
        """Whether decoded latents are more than rounded ones."""
        return bool(self.config.codec.options().get("entropy", {}).get("residual"))

    @torch.no_grad()
    def validate(self, step: int) -> list[dict[str, Any]]:
        y, _ = self.latents.batch(0, 16)
        bits, error = estimated(self.codec, y)
        found = {"bits": bits.mean(), "error": error.mean() / y[0].numel()}
        return [{"crops": len(y), **{k: float(v) for k, v in found.items()}}]

    def rows(self, rows: list[dict[str, Any]]) -> str:
        return f"{rows[0]['bits']:.0f} bits a crop, mean error {rows[0]['error']:.4f}"


def estimated(
    codec: LatentCodec, y: Tensor, *, noise: bool = False
) -> tuple[Tensor, Tensor]:
    """Bits (B,) of latents y (B, M, h, w), and the sum of squared errors, (B,)."""
    coder = coders.RateEstimator(len(y), noise=noise)
    y_hat = codec.entropy.code(coder, y, (len(y), *y.shape[2:]))
    return coder.bits, (y_hat.float() - y).square().sum((1, 2, 3))


def add_variants(parser: argparse.ArgumentParser) -> None:
    """The options that say what is compared."""
    parser.add_argument("--variant", action="append", default=[], metavar="N=O ...")
    parser.add_argument("--preset", help="variants of variants/PRESET.yaml, first")
    parser.add_argument("--only", help="names of variants, separated by commas")


def variants(given: argparse.Namespace, section: str) -> dict[str, list[str]]:
    """Overrides by name: of the preset, whose options are the section's, and NAME=O.

    Names of a preset that begin with a dot are there for others to refer to.
    """
    found = {}
    if given.preset:
        text = (PRESETS / f"{given.preset}.yaml").read_text()
        for name, options in yaml.safe_load(text).items():
            pairs = [f"{section}.{k}={json.dumps(v)}" for k, v in options.items()]
            found[name] = pairs
    for item in given.variant:
        name, _, overrides = item.partition("=")
        found[name] = overrides.split()
    shown = [name for name in found if not name.startswith(".")]
    return {name: found[name] for name in (given.only or ",".join(shown)).split(",")}


def trained(config: TrainConfig, say: Callable[[str], None] = print) -> Codec:
    """Train and export a run, or what is missing of both; return its codec."""
    run = Path(config.run.out)
    if not (run / zoo.EXPORTED).exists():
        Trainer(config, resume=(run / "last.pt").exists()).train()
        export(run, name=f"image/{run.name}", progress=say)
    return load_codec(run / zoo.EXPORTED)


@contextmanager
def no_thrift() -> Iterator[None]:
    """Round to the nearest while this lasts: no model trades error for bits."""
    before, coders.THRIFT = coders.THRIFT, float("inf")
    try:
        yield
    finally:
        coders.THRIFT = before


@torch.inference_mode()
def measured(codec: Codec, crops: Tensor, quality: float) -> dict[str, float]:
    """Real bits a pixel of crops (n, 3, H, W), PSNR in dB, ms to decode one."""
    level, size = codec.level_of(quality), crops.shape[2:]
    bits, mse = 0, []
    best = {"entropy_ms": float("inf"), "decode_ms": float("inf")}
    for x in crops.split(1):
        coded = codec.write(codec.encode_codes(x, level), level)
        bits += 8 * len(coded.data[0])
        for _ in range(TURNS):
            started = time.perf_counter()
            codes = codec.read(coded.data, level, codec.grid(size))
            read = time.perf_counter()
            x_hat = codec.decode_codes(codes, level, size)
            done = time.perf_counter()
            times = {"entropy_ms": read - started, "decode_ms": done - started}
            best = {k: min(best[k], 1000 * times[k]) for k in best}
        mse.append((x_hat - x).square().mean())
    errors = torch.stack(mse)
    return {
        "bpp": bits / (len(crops) * size[0] * size[1]),
        "psnr": float(psnr_of_mse(errors).mean()),
        "mse": float(errors.mean()),
        **best,
    }


def held_out(config: TrainConfig, count: int) -> Tensor:
    """Middles of images that nobody trains on, (n, 3, size, size)."""
    images = ImageCache(config.data.train, config.data.cache)
    source = CropSource(
        images, crop=64, batch=1, seed=SEED, holdout=config.data.holdout
    )
    return source.validation(config.eval.size, count)


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    """Lines: bits against the first variant, also at equal PSNR, sizes, ms, rows."""
    first = next(iter(found.values()))["rows"]
    header = ["variant", "bits %", "BD-rate %", "parameters", "entropy ms", "decode ms"]
    header += [f"bpp / dB at {row['quality']:g}" for row in first]
    lines = []
    for name, about in found.items():
        pairs = zip(about["rows"], first, strict=True)
        ratio = np.mean([np.log(a["bpp"] / b["bpp"]) for a, b in pairs])
        slowest = about["rows"][-1]
        curves = ([row[k] for row in r] for r in (first, about["rows"]) for k in POINT)
        equal = bdrate.compare(*curves).rate_akima
        cells = [f"{100 * (np.exp(ratio) - 1):+.2f}", f"{equal:+.2f}"]
        cells.append(str(about["parameters"]))
        cells += [f"{slowest[k]:.1f}" for k in ("entropy_ms", "decode_ms")]
        cells += [f"{row['bpp']:.4f} / {row['psnr']:.3f}" for row in about["rows"]]
        lines.append([name, *cells])
    return aligned(Table(header, lines))


def main() -> None:
    """Train every variant, measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=Path, required=True, help="training images")
    add_variants(parser)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--count", type=int, default=1024, help="crops to cache")
    parser.add_argument("--crop", type=int, default=256, help="their side")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--test", type=int, default=16, help="held-out crops")
    parser.add_argument("--cache", type=Path, help="decoded images; OUT/cache")
    parser.add_argument("--checkpoint", help="the transform's, not the package's")
    parser.add_argument("--trained", action="store_true", help="start at its model")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    LatentsTask.count, LatentsTask.checkpoint = given.count, given.checkpoint
    LatentsTask.trained = given.trained
    shared = [
        "task=image/cached-latents",
        f"data.train={given.images}",
        f"data.cache={given.cache or given.out / 'cache'}",
        f"data.crop={given.crop}",
        f"data.batch={given.batch}",
        f"run.steps={given.steps}",
        f"optim.warmup={max(1, given.steps // 20)}",
        f"eval.every={given.steps}",
        "eval.images=4",
        f"eval.qualities={list(QUALITIES)}",
    ]
    found = {}
    for name, overrides in variants(given, "codec.entropy").items():
        run = f"run.out={given.out / name}"
        config = load_config(CONFIG, [*shared, run, *overrides])
        codec = trained(config)
        crops = held_out(config, given.test)
        with nullcontext() if given.trained else no_thrift():
            rows = [{"quality": q, **measured(codec, crops, q)} for q in QUALITIES]
        assert codec.entropy is not None
        parameters = sum(p.numel() for p in codec.entropy.parameters())
        log = json.loads(
            (given.out / name / zoo.EXPORTED).with_suffix(".json").read_text()
        )
        found[name] = {
            "parameters": parameters,
            "rows": rows,
            "seconds": log["seconds"],
        }
        found[name]["steps"] = given.steps
    (given.out / "entropy.json").write_text(json.dumps(found, indent=1) + "\n")
    print(*table(found), sep="\n")


if __name__ == "__main__":
    main()
