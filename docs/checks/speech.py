# SPDX-License-Identifier: Apache-2.0
"""Speech codecs beyond quality: chunk lengths, parts, speed, latency, memory.

    python docs/checks/speech.py SOUND [SOUND...] --out DIR [--model speech/default]

    chunks    codes of pieces of 20 ms, 1 s, random lengths and the whole: all equal?
              samples of codes pushed by 1, 50 and all positions: all equal?
    parts     seconds A:B of a file against that part of the whole, bit for bit
    latency   samples that must arrive before the first ones leave, in milliseconds
    speed     real-time factor of encode and decode of a minute, file to file, one core
    memory    peak of the command line for a minute and for --hours, in child processes
    overhead  bytes of a minute's file that are not token streams

Sounds are joined and repeated to the length that each part wants. Everything that is
compared must be equal; the exit status is 1 where it is not.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from large import child

from polycodec.codecs import zoo
from polycodec.codecs.files.api import decode, encode
from polycodec.codecs.files.container.file import Reader
from polycodec.codecs.files.speech.chunks import unpack_chunk
from polycodec.codecs.files.speech.read import open_speech
from polycodec.codecs.files.speech.resample import Resampler


def joined(paths: Sequence[Path], rate: int) -> np.ndarray:
    """All sounds, first channel, one after the other at ``rate``: (T,) float32."""
    parts = []
    for path in paths:
        with open_speech(path) as sound:
            samples = np.concatenate(list(sound.blocks()))[:, :1]
            resampler = Resampler(sound.info.rate, rate)
            parts.append(resampler.push(samples)[:, 0])
            parts.append(resampler.flush(len(samples) * rate // sound.info.rate)[:, 0])
    return np.concatenate(parts)


def write_wav(target: Path | io.BytesIO, x: np.ndarray, rate: int, seconds: float):
    """A 16-bit WAV of ``seconds``: x repeated, each time at another loudness."""
    left, turn = round(seconds * rate), 0
    with wave.open(str(target) if isinstance(target, Path) else target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        while left:
            gain = 0.35 + 0.6 * ((turn * 0.618) % 1)
            piece = np.clip(gain * x[:left], -1, 1) * 32767
            file.writeframes(piece.astype("<i2").tobytes())
            left, turn = left - len(piece), turn + 1


def cuts(total: int, length: int, rng: np.random.Generator) -> Iterator[slice]:
    """Slices of ``length`` that cover ``total``; of random lengths for 0."""
    at = 0
    while at < total:
        step = length or int(rng.integers(1, 20000))
        yield slice(at, min(at + step, total))
        at += step


def streamed(stream, signal: torch.Tensor, pieces: Iterator[slice]) -> torch.Tensor:
    """Results of a signal (C, n) pushed in pieces."""
    found = [out for piece in pieces for out in stream.push(signal[:, piece])]
    return torch.cat([*found, *stream.flush()], dim=1)


def chunks(codec, x: np.ndarray) -> dict:
    """Differences between codes, and between samples, for several cuts."""
    x = x[: 20 * codec.signal.rate // codec.stride * codec.stride]
    signal = torch.from_numpy(x)[None]
    rng = np.random.default_rng(0)
    whole = streamed(
        codec.signal.analysis(codec, codec.levels), signal, cuts(len(x), len(x), rng)
    )
    table = {"codes": list(whole.shape)}
    lengths = {"20 ms": codec.signal.rate // 50, "1 s": codec.signal.rate, "random": 0}
    for name, length in lengths.items():
        found = streamed(
            codec.signal.analysis(codec, codec.levels),
            signal,
            cuts(len(x), length, rng),
        )
        table[f"codes that differ, {name}"] = int((found != whole).sum())
    frames = whole.shape[1]
    sound = streamed(
        codec.signal.synthesis(codec, codec.levels), whole, cuts(frames, frames, rng)
    )
    for length in (1, 50):
        found = streamed(
            codec.signal.synthesis(codec, codec.levels),
            whole,
            cuts(frames, length, rng),
        )
        name = f"samples that differ, codes by {length}"
        table[name] = int((found != sound).sum())
    return table


def parts(codec, x: np.ndarray) -> dict:
    """Seconds of a file decoded alone, against the whole."""
    packed, seconds = coded(codec, x, 35.0)
    whole = samples_of(codec, packed)
    table, rate = {}, codec.signal.rate
    for a, b in ((0, 3), (9.5, 10.5), (14.25, 27.5), (34, seconds)):
        found = samples_of(codec, packed, seconds=(a, b))
        expected = whole[round(a * rate) : round(b * rate)]
        equal = found.shape == expected.shape and bool((found == expected).all())
        table[f"{a:g}:{b:g} s is that part of the whole"] = equal
    return table


def coded(codec, x: np.ndarray, seconds: float, **rate: float) -> tuple[bytes, float]:
    """The file of ``seconds`` of x."""
    source, target = io.BytesIO(), io.BytesIO()
    write_wav(source, x, codec.signal.rate, seconds)
    source.seek(0)
    encode(source, target, codec=codec, **rate)
    return target.getvalue(), seconds


def samples_of(codec, packed: bytes, **options) -> np.ndarray:
    """16-bit samples that a file decodes to."""
    target = io.BytesIO()
    decode(io.BytesIO(packed), target, codec=codec, **options)
    target.seek(0)
    with wave.open(target) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def latency(codec) -> dict:
    """How long the streams wait, in milliseconds of sound."""
    frame = 1000 * codec.stride / codec.signal.rate
    ends = {
        "analysis": codec.signal.analysis(codec, codec.levels),
        "synthesis": codec.signal.synthesis(codec, codec.levels),
    }
    table = {"frame": frame}
    for name, stream in ends.items():
        left, right = stream.context
        table[name] = {
            "block": stream.block * frame,
            "look-ahead": right * frame,
            "memory": left * frame,
        }
    return table


def speed(codec, x: np.ndarray, rounds: int) -> dict:
    """The best real-time factor of ``rounds`` for a minute, with one thread."""
    torch.set_num_threads(1)
    table: dict[str, float] = {}
    for _ in range(rounds):
        started = time.perf_counter()
        packed, seconds = coded(codec, x, 60.0)
        middle = time.perf_counter()
        samples_of(codec, packed)
        row = {
            "encode": (middle - started) / seconds,
            "decode": (time.perf_counter() - middle) / seconds,
        }
        table = {k: round(min(v, table.get(k, v)), 5) for k, v in row.items()}
    return {"threads": 1, **table}


def overhead(codec, x: np.ndarray) -> dict:
    """Bytes of a minute's file, and how many of them are token streams."""
    table = {}
    for quality in (0, 50, 100):
        packed, seconds = coded(codec, x, 60.0, quality=quality)
        reader = Reader(io.BytesIO(packed))
        streams = sum(
            len(stream)
            for k in range(reader.n_chunks)
            for stream in unpack_chunk(reader.chunk(k), 1)[1]
        )
        table[f"quality {quality}"] = {
            "file": len(packed),
            "kbit/s": round(8 * len(packed) / seconds / 1000, 3),
            "not tokens": len(packed) - streams,
        }
    return table


def memory(args, x: np.ndarray, rate: int) -> dict:
    """Peak MB and seconds of encode and decode in processes of their own."""
    options = ["--force", "--model", args.model]
    if args.checkpoint:
        options += ["--checkpoint", args.checkpoint]
    table = {}
    for name, seconds in (("1 minute", 60.0), (f"{args.hours:g} h", 3600 * args.hours)):
        long, packed, back = (
            args.out / f"long{end}" for end in (".wav", ".plc", "2.wav")
        )
        write_wav(long, x, rate, seconds)
        table[f"encode {name}"] = child(
            "encode", str(long), "-o", str(packed), *options
        )
        # The model is named in the file.
        table[f"decode {name}"] = child(
            "decode", str(packed), "-o", str(back), "--force", *options[3:]
        )
        table[f"bytes {name}"] = packed.stat().st_size
        for path in (long, packed, back):
            path.unlink()
    return table


def wrong(table: dict) -> list[str]:
    """Names of comparisons that did not come out equal."""
    names = [n for n, v in table["chunks"].items() if "differ" in n and v]
    return names + [n for n, equal in table["parts"].items() if not equal]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sounds", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="speech/default")
    parser.add_argument("--checkpoint")
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    codec = zoo.load(args.model, "cpu", checkpoint=args.checkpoint)
    x = joined(args.sounds, codec.signal.rate)
    x = np.resize(x, max(len(x), 25 * codec.signal.rate))
    table = {
        "chunks": chunks(codec, x),
        "parts": parts(codec, x),
        "latency, ms": latency(codec),
        "overhead of a minute": overhead(codec, x),
        "real-time factor": speed(codec, x, args.rounds),
    }
    if args.hours:
        table["memory"] = memory(args, x, codec.signal.rate)
    text = json.dumps({"torch": torch.__version__, **table}, indent=1)
    (args.out / "speech.json").write_text(text + "\n")
    print(text)
    if wrong(table):
        sys.exit(f"not equal: {', '.join(wrong(table))}")


if __name__ == "__main__":
    main()
