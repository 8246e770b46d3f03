# SPDX-License-Identifier: Apache-2.0
"""What entropy models save on a speech codec's tokens, in real bytes.

    python docs/checks/tokens.py TRAIN TEST --out DIR [--model speech/default]

    fixed width         whole bits, enough for a level's codebook
    static              how often each token was seen, no context
    shipped             the model in the weights
    transformer         `tokens-transformer`, fitted here for as many seconds as --steps
                        steps of `tokens-adaptive` take, which ships
    transformer xN      the same for --longer times as many
    adaptive            if named in --models: `tokens-adaptive` fitted here, as a check

Models are fitted to the tokens of the sounds in TRAIN without every 20th speaker, as an
export does it, and code those of TEST, from which nothing is learned, in chunks of 10 s
as files do. Bytes are those of real streams; those of all levels are decoded again.
The estimate is -log2 of the probabilities in the integer tables. Seconds are processor
time. The shipped model's files are written too: what they hold beside their streams is
overhead, and the streams must be as long as those counted.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from speech import joined

from polycodec.codecs import zoo
from polycodec.codecs.files.api import encode
from polycodec.codecs.files.container.file import Reader
from polycodec.codecs.files.speech.chunks import unpack_chunk
from polycodec.entropy_models.coders import RangeDecoder, RangeEncoder
from polycodec.registry import build
from polycodec.train.speech.data import UNKNOWN, speakers_of

SPAN = 500  # frames of a file's chunk at 50 a second
TRIAL = 20  # steps that tell how long one takes
MODELS = ("static", "shipped", "transformer", "adaptive")
HOLDOUT = 20  # every so many speakers are kept out, as the configs have it


@dataclass
class Fit:
    """A fitted model and what that took."""

    model: torch.nn.Module
    steps: int = 0
    training: float = 0.0  # seconds of its steps
    seconds: float = 0.0  # of all, with the choice of its speed
    peak_mb: float = 0.0  # of this process so far


@dataclass
class Count:
    """Sizes of the streams of one model at one number of levels."""

    bits: float = 0.0  # estimated
    tokens: int = 0
    seconds: float = 0.0  # of encoding
    wrong: int = 0  # streams that decoded to other tokens
    sizes: list[int] = field(default_factory=list)


def sounds(folder: Path) -> list[Path]:
    """Recordings of a folder."""
    return sorted(p for p in folder.iterdir() if p.suffix in (".flac", ".wav", ".ogg"))


def codes_of(codec, paths: Sequence[Path], kept: Path) -> list[np.ndarray]:
    """Tokens (L, F) of every recording, kept in a file between runs."""
    if kept.exists():
        with np.load(kept) as arrays:
            return [arrays[name] for name in arrays.files]
    codes = []
    for path in paths:
        x = torch.from_numpy(joined([path], codec.signal.rate))[None, None]
        codes.append(codec.encode_codes(x, codec.levels)[0].numpy().astype(np.int16))
    np.savez(kept, *codes)
    return codes


def training(folder: Path) -> list[Path]:
    """Recordings of a folder without those of every 20th known speaker, or file."""
    paths = sounds(folder)
    speakers = speakers_of(folder, paths) or [path.name for path in paths]
    kept_out = set(sorted(set(speakers) - UNKNOWN)[::HOLDOUT])
    return [p for p, name in zip(paths, speakers, strict=True) if name not in kept_out]


def fitted(model, codes: Sequence[np.ndarray], **options) -> Fit:
    """Fit a model; its steps and their seconds are counted if it has any."""
    ticks: list[float] = []

    def tick(step: int, bits: float) -> None:
        ticks.append(time.process_time())

    learns = "steps" in options
    started = time.process_time()
    model.fit(codes, **options, **({"progress": tick} if learns else {}))
    model.update()
    seconds = time.process_time() - started
    training = ticks[-1] - started if ticks else 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Fit(model.eval(), len(ticks), training, seconds, peak)


def step_seconds(make: Callable[[], torch.nn.Module], codes: list[np.ndarray]) -> float:
    """Seconds of one step of training, taken from a short fit to little."""
    little = [one[:, :64] for one in codes[:4]]
    return fitted(make(), little, steps=TRIAL).training / TRIAL


def models(codec, codes: list[np.ndarray], args) -> Iterator[tuple[str, Fit]]:
    """All models, each fitted when it is asked for."""

    def make(name: str) -> Callable[[], torch.nn.Module]:
        return lambda: build(f"entropy/{name}", sizes=codec.sizes)

    if "static" in args.models:
        yield "static", fitted(make("tokens-static")(), codes)
    if "shipped" in args.models:
        yield "shipped", Fit(codec.entropy)
    if "adaptive" in args.models:
        yield "adaptive", fitted(make("tokens-adaptive")(), codes, steps=args.steps)
    if "transformer" not in args.models:
        return
    budget = args.steps * step_seconds(make("tokens-adaptive"), codes)
    one = step_seconds(make("tokens-transformer"), codes)
    say(f"{args.steps} steps of adaptive: {budget:.0f} s; of transformer: {one:.2f} s")
    for times in sorted({1.0, args.longer}):
        steps = max(10, round(times * budget / one))
        name = "transformer" if times == 1 else f"transformer x{times:g}"
        yield name, fitted(make("tokens-transformer")(), codes, steps=steps)


@torch.inference_mode()
def count(model, codes: Sequence[np.ndarray], levels: int, check: bool) -> Count:
    """Code every chunk of the first ``levels`` levels; ``check``: decode them too."""
    total = Count()
    for one in codes:
        for first in range(0, one.shape[1], SPAN):
            piece = torch.from_numpy(one[None, :levels, first : first + SPAN].copy())
            piece, started = piece.to(torch.int64), time.process_time()
            coder = RangeEncoder(1, estimate=True)
            model.code(coder, piece, tuple(piece.shape))
            (data,) = coder.finish()
            total.seconds += time.process_time() - started
            if check:
                decoder = RangeDecoder([data])
                back = model.code(decoder, None, tuple(piece.shape))
                decoder.finish()
                total.wrong += not torch.equal(back, piece)
            total.sizes.append(len(data))
            total.bits += coder.estimated_bits[0]
            total.tokens += piece.numel()
    return total


def files(codec, folder: Path, levels: int, expected: list[int]) -> dict[str, float]:
    """Bytes of a real file of every recording, and of the streams in it."""
    size, sizes, seconds = 0, [], 0.0
    for path in sounds(folder):
        target = io.BytesIO()
        quality = 100 * (levels - 1) / (codec.levels - 1)
        encode(path, target, codec=codec, quality=quality)
        reader = Reader(target)
        chunks = [unpack_chunk(reader.chunk(k), 1)[1] for k in range(reader.n_chunks)]
        sizes += [len(stream) for (stream,) in chunks]
        size += len(target.getvalue())
        seconds += reader.header.geometry.samples / reader.header.geometry.rate
    count, overhead = len(sounds(folder)), size - sum(sizes)
    return {
        "files": count,
        "bytes": size,
        "kbit/s": 8 * size / seconds / 1000,
        "overhead, bytes a file": overhead / count,
        "overhead, bytes a minute": 60 * overhead / seconds,
        "streams of other sizes than counted": sum(
            a != b for a, b in zip(sizes, expected, strict=True)
        ),
    }


def fixed(sizes: Sequence[int], whole: bool) -> float:
    """Bits of a column of tokens: whole numbers for each level, or log2 of its size."""
    bits = np.log2(sizes)
    return float(np.sum(np.ceil(bits) if whole else bits))


def baselines(codec, levels: int) -> dict[str, dict[str, float]]:
    """What needs no model."""
    table = {}
    for name, whole in (("fixed width", True), ("log2 of sizes", False)):
        bits = fixed(codec.sizes[:levels], whole)
        kbps = bits * (codec.signal.rate / codec.stride) / 1000
        table[name] = {"bits a token": bits / levels, "kbit/s": kbps}
    return table


def row(got: Count, levels: int, codec) -> dict[str, float]:
    """The figures of a model at one number of levels."""
    size, streams = sum(got.sizes), len(got.sizes)
    real = 8 * size / got.tokens
    return {
        "bits a token": real,
        "kbit/s": real * levels * (codec.signal.rate / codec.stride) / 1000,
        "saved": 1 - real * levels / fixed(codec.sizes[:levels], True),
        "estimated": got.bits / got.tokens,
        "bytes over estimate a stream": (size - got.bits / 8) / streams,
        "ms a frame": 1000 * got.seconds * levels / got.tokens,
        "streams": streams,
        "wrong": got.wrong,
    }


def measured(codec, train, test, args) -> dict[str, dict]:
    """Fits, and every model's row for every number of levels; real files."""
    table: dict[str, dict] = {"fits": {}, "files": {}}
    table["levels"] = {n: baselines(codec, n) for n in args.levels}
    for name, fit in models(codec, train, args):
        numbers = {k: v for k, v in vars(fit).items() if k != "model"}
        table["fits"][name] = numbers
        say(f"{name}: {numbers}")
        for n in args.levels:
            got = count(fit.model, test, n, check=n == max(args.levels))
            table["levels"][n][name] = row(got, n, codec)
            say(f"{name}, {n} levels: {table['levels'][n][name]}")
            if name == "shipped":
                table["files"][n] = files(codec, args.test, n, got.sizes)
                say(f"files, {n} levels: {table['files'][n]}")
    return table


def markdown(table: dict) -> str:
    """Models by levels: bits a token and what is saved against fixed width."""
    levels = list(table["levels"])
    lines = ["| model | " + " | ".join(f"{n} levels" for n in levels) + " |"]
    lines.append("|" + "---|" * (len(levels) + 1))
    for name in table["levels"][levels[0]]:
        cells = [table["levels"][n][name] for n in levels]
        texts = [
            f"{cell['bits a token']:.3f} b, {cell['kbit/s']:.3f} kbit/s"
            + (f", {-100 * cell['saved']:+.1f} %" if "saved" in cell else "")
            for cell in cells
        ]
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="speech/default")
    parser.add_argument("--checkpoint")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--longer", type=float, default=2.0)
    parser.add_argument("--models", nargs="+", default=MODELS[:3], choices=MODELS)
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 2, 4, 8])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    codec = zoo.load(args.model, "cpu", checkpoint=args.checkpoint)
    test = codes_of(codec, sounds(args.test), args.out / "test.npz")
    train = codes_of(codec, training(args.train), args.out / "train.npz")
    frames = [sum(one.shape[1] for one in part) for part in (train, test)]
    say(f"{frames[0]} frames to learn from, {frames[1]} to code")
    about = {"torch": torch.__version__, "sizes": codec.sizes, "frames": frames}
    table = {**about, **measured(codec, train, test, args)}
    text = json.dumps(table, indent=1)
    (args.out / "tokens.json").write_text(text + "\n")
    print(text, markdown(table), sep="\n\n")
    per_model = [row for n in args.levels for row in table["levels"][n].values()]
    if wrong := sum(row.get("wrong", 0) for row in per_model):
        sys.exit(f"{wrong} streams decoded to other tokens")


if __name__ == "__main__":
    main()
