# SPDX-License-Identifier: Apache-2.0
"""Live speech beyond the tests: many codes, many streams, hostile packets, bits.

    python docs/checks/live.py PART... [--checkpoint RUN] [--sounds DIR] [--seconds S]

    codes     how many codes differ over pieces, signals beside and threads, of how many
    streams   --count streams in step, coded and decoded: seconds a second, and bytes
    packets   mutated packets for --seconds: each a named error, or sound
    bits      a code under tables, under contexts in packets of 1 to all frames
    quality   what is heard at --losses of packets, beside Opus (quality.py), of the
              recordings in --sounds; rows go to --rows as they are known

Without a checkpoint the codec is `configs/speech/live.yaml` at its size, with weights
drawn at random and codebooks of their latents: times and equality are those of any
weights, bits and sound are not; `bits` wants a real one. Sounds: 16 kHz files, or noise
that swells. The exit status is 1 where codes differ or an error has no name.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import yaml
from quality import quality

from polycodec.codecs import zoo
from polycodec.codecs.base import Codec
from polycodec.codecs.signals.live import Decoders, Encoders
from polycodec.codecs.signals.packets import VERSION
from polycodec.errors import BitstreamError
from polycodec.registry import build

WARM = 3  # steps that build what is kept, and are not timed
CONFIG = Path(__file__).parents[2] / "configs" / "speech" / "live.yaml"


@torch.no_grad()
def codec_of(args: argparse.Namespace) -> Codec:
    """The codec of a run or a model, or one of the shipped size without training."""
    if args.checkpoint or args.model:
        return zoo.load(args.model or "speech/live", "cpu", checkpoint=args.checkpoint)
    section = yaml.safe_load(CONFIG.read_text())["codec"]
    section |= {"quantizer": {"name": "residual", "levels": 16, "codes": 256}}
    torch.manual_seed(0)
    codec = build("codec/token", **{k: v for k, v in section.items() if k != "name"})
    codec.eval()
    z = codec.analyse(torch.from_numpy(noise(64 * 16000))[None, None], codec.levels)
    codec.quantizer.initialise(z.transpose(1, 2).flatten(0, 1))
    codec.entropy.update()
    return codec


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Coloured noise that swells, (n,) float32."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=samples + 8)
    x = np.convolve(x, [0.5, 0.4, 0.3, 0.2, 0.1], "same")[:samples]
    swell = 1 + np.sin(np.arange(samples) / 2500 + seed)
    return np.clip(0.15 * x * swell, -1, 1).astype(np.float32)


def sounds_of(args: argparse.Namespace, seconds: float, count: int) -> np.ndarray:
    """Samples (count, n) of ``seconds`` each."""
    length = int(seconds * 16000)
    if not args.sounds:
        return np.stack([noise(length, k) for k in range(count)])
    import soundfile

    files = sorted(Path(args.sounds).glob("*.flac"))
    x = np.concatenate([soundfile.read(f, dtype="float32")[0] for f in files])
    return np.resize(x, (count, length))


def taken(codec: Codec, x: np.ndarray, pieces) -> np.ndarray:
    """Codes (B, C, frames) of samples (B, n) pushed in ``pieces``."""
    stream = codec.signal.frames(codec) if len(x) > 1 else None
    given = torch.from_numpy(x)[:, None]
    if stream is None:
        stream, given = codec.signal.analysis(codec), given[0]
    parts, at = [], 0
    while at < x.shape[1]:
        step = next(pieces)
        parts += stream.push(given[..., at : at + step])
        at += step
    codes = torch.cat([*parts, *stream.flush()], dim=-1)
    return (codes if codes.ndim == 3 else codes[None]).numpy()


def every(step: int):
    while True:
        yield step


def at_random(rng: np.random.Generator):
    while True:
        yield int(rng.integers(1, 3000))


def codes(codec: Codec, args: argparse.Namespace) -> dict:
    """Differences from each signal alone, in one piece, on one thread."""
    x = sounds_of(args, args.length, 16)
    torch.set_num_threads(1)
    alone = np.concatenate([taken(codec, one[None], every(len(one))) for one in x])
    table = {"codes of each row": int(alone.size)}

    def compare(name: str, found: np.ndarray) -> None:
        table[f"differ, {name}"] = int((found != alone).sum())

    rows = [one[None] for one in x]
    random = at_random(np.random.default_rng(0))
    frames = [taken(codec, one, every(codec.stride)) for one in rows]
    compare("frame by frame", np.concatenate(frames))
    compare("random pieces", np.concatenate([taken(codec, o, random) for o in rows]))
    for batch in (4, 16) if codec_remembers(codec) else ():
        groups = np.split(x, 16 // batch)
        found = [taken(codec, group, every(codec.stride)) for group in groups]
        compare(f"{batch} side by side", np.concatenate(found))
    for batch in (1, 4, 16):
        groups = torch.from_numpy(x)[:, None].split(batch)
        found = [codec.encode_codes(group, codec.levels).numpy() for group in groups]
        compare(f"whole, {batch} in a batch", np.concatenate(found))
    torch.set_num_threads(args.threads)
    whole = [taken(codec, one, every(one.shape[1])) for one in rows]
    compare(f"{args.threads} threads", np.concatenate(whole))
    torch.set_num_threads(1)
    return table


def codec_remembers(codec: Codec) -> bool:
    from polycodec.codecs.transforms.base import CausalTransform

    return isinstance(codec.transform, CausalTransform)


def streams(codec: Codec, args: argparse.Namespace) -> dict:
    """Time of --count calls in step, and what they keep."""
    torch.set_num_threads(args.threads)
    x = sounds_of(args, args.length, args.count)
    encoders = Encoders(codec, args.quality, count=args.count)
    decoders = Decoders(codec, count=args.count)
    hop, size, steps = codec.stride, 0, x.shape[1] // codec.stride
    spent, slowest, begun = [0.0, 0.0], 0.0, 0.0
    for k in range(steps):
        if k == WARM:
            begun, spent = time.perf_counter(), [0.0, 0.0]
        started, clock = time.process_time(), time.perf_counter()
        packets = encoders.push(x[:, k * hop : (k + 1) * hop])
        middle = time.process_time()
        for step in zip(*packets, strict=True):
            decoders.push(list(step))
            size += sum(map(len, step))
        spent[0] += middle - started
        spent[1] += time.process_time() - middle
        if k >= WARM:
            slowest = max(slowest, time.perf_counter() - clock)
    sound = (steps - WARM) * hop / codec.signal.rate
    return {
        "streams": args.count,
        "threads": args.threads,
        "encode, seconds of cores a second of all": round(spent[0] / sound, 4),
        "decode, seconds of cores a second of all": round(spent[1] / sound, 4),
        "seconds a second of all": round((time.perf_counter() - begun) / sound, 4),
        "slowest step, ms": round(1000 * slowest, 1),
        "bytes a stream, encoder": encoders.bytes // args.count,
        "bytes a stream, decoder": decoders.bytes // args.count,
        "kbit/s a stream": round(8 * size / x.size * codec.signal.rate / 1000, 3),
    }


def packets(codec: Codec, args: argparse.Namespace) -> dict:
    """What mutated packets do to a decoder, in --seconds."""
    encoder = codec.encoder(args.quality)
    good = encoder.push(sounds_of(args, 4.0, 1)[0]) + encoder.flush()
    rng, decoder = np.random.default_rng(args.seed), codec.decoder()
    counts: dict[str, int] = {"sound": 0}
    ended = time.monotonic() + args.seconds
    total = 0
    while time.monotonic() < ended and total < args.most:
        bad = mutated(good[int(rng.integers(len(good)))], rng)
        total += 1
        try:
            y = decoder.push(bad)
            name = "sound"
            assert bool(y.isfinite().all()) and bool((y.abs() <= 1).all())
        except BitstreamError as error:
            name = type(error).__name__
        counts[name] = counts.get(name, 0) + 1
        if total % 50 == 0:  # a good one is heard in between
            decoder.push(good[total % len(good)])
    return {"mutated": total, **counts}


def mutated(packet: bytes, rng: np.random.Generator) -> bytes:
    """A packet with bits or bytes changed, cut, longer, or made of nothing."""
    bad = bytearray(packet)
    kind = int(rng.integers(5))
    if kind == 0:
        bad[rng.integers(len(bad))] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        for _ in range(int(rng.integers(1, 6))):
            bad[rng.integers(len(bad))] = rng.integers(256)
    elif kind == 2:
        del bad[int(rng.integers(len(bad))) :]
    elif kind == 3:
        bad += rng.bytes(int(rng.integers(1, 9)))
    else:
        bad = bytearray(rng.bytes(int(rng.integers(0, 24))))
        if len(bad) > 1:  # of the right version and size
            bad[0] = VERSION << 6 | min(62, len(bad) - 2)
    return bytes(bad)


def bits(codec: Codec, args: argparse.Namespace) -> dict:
    """Bits a code of real sounds, by how far the codec's entropy model may look.

    In packets of so many frames it starts anew with each; its tables alone say what it
    costs not to look at all.
    """
    x = sounds_of(args, args.length, 1)
    given = torch.from_numpy(taken(codec, x, every(x.shape[1])))
    table: dict = {"codes": int(given.numel()), "entropy": type(codec.entropy).__name__}
    tables = build("entropy/tokens-static", sizes=codec.sizes)
    tables.tables = {"order0": codec.entropy.order0}
    for name, model in (("tables alone", tables), ("contexts", codec.entropy)):
        for frames in (1, 2, 5, 50, given.shape[2]):
            count = given.shape[2] // frames
            pieces = given[0, :, : count * frames].unflatten(1, (count, frames))
            spent = float(model.bits(pieces.movedim(1, 0)).sum())
            table[f"{name}, {frames} frames"] = round(spent / pieces.numel(), 4)
    return table


def numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",") if number]


PARTS = {
    "codes": codes,
    "streams": streams,
    "packets": packets,
    "bits": bits,
    "quality": quality,
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--model")
    parser.add_argument("--checkpoint")
    parser.add_argument("--sounds")
    parser.add_argument("--length", type=float, default=10.0, help="seconds of a sound")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--most", type=int, default=100_000, help="mutated packets")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quality", type=float, default=35.0)
    parser.add_argument("--seed", type=int, default=0)
    calls = parser.add_argument_group("quality")
    calls.add_argument("--rows", default="quality.jsonl", help="taken up again")
    calls.add_argument("--kbps", type=numbers, default="1,2,3,6", help="of packets")
    calls.add_argument("--opus", type=numbers, default="6,8,12,16,24")
    calls.add_argument("--losses", type=numbers, default="0,0.1,0.2", help="shares")
    calls.add_argument("--burst", type=float, default=1.5, help="mean, packets")
    calls.add_argument("--frames", type=int, default=1, help="of a packet")
    calls.add_argument(
        "--measures", type=lambda text: text.split(","), default="pesq_wb,stoi"
    )
    calls.add_argument("--limit", type=int, help="the first recordings only")
    args = parser.parse_args()
    if "quality" in args.parts and not args.sounds:
        parser.error("quality wants a folder of recordings: --sounds")
    codec = codec_of(args)
    table = {name: PARTS[name](codec, args) for name in args.parts}
    print(json.dumps({"torch": torch.__version__, **table}, indent=1))
    if any(value for name, value in table.get("codes", {}).items() if "differ" in name):
        sys.exit("codes differ")


if __name__ == "__main__":
    main()
