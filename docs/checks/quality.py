# SPDX-License-Identifier: Apache-2.0
"""What is heard of calls that lose packets: a codec, Opus, and samples as they are.

    recording ──► sender ──► packets ──► LossyNetwork ──► receiver ──► measures

Rows of one line of JSON, (recording, codec, setting, loss), are written as they are
known, and are not measured again. The k-th packets of all codecs are lost together:
losses of a recording follow from its place and the share alone. Where a packet has
several frames, all of them are gone with it.

What is scored stands where it stood in the recording. Our packets' samples do, whatever
their delay; Opus's look-ahead, which the library tells, is taken off. Neither is
searched for. Times are of the process, one thread, in pieces of 20 ms as they come.
"""

from __future__ import annotations

import bisect
import functools
import json
import sys
import time
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import opus
import torch

from polycodec.codecs.base import Codec
from polycodec.codecs.measures.speech import MEASURES, RATE
from polycodec.codecs.signals.losses import LossyNetwork
from polycodec.codecs.signals.packets import read_packets, write_packets
from polycodec.entropy_models.coders import RateEstimator
from polycodec.eval.speech import wave
from polycodec.eval.speech.datasets import SPEECH

PIECE = RATE // 50  # samples of 20 ms
TRIED = 5  # recordings, evenly, by which qualities are chosen


@dataclass(frozen=True)
class Ours:
    """A codec at a quality, in packets of ``frames``."""

    codec: Codec
    setting: float
    frames: int
    told = False  # whether a sender is told of losses

    @property
    def name(self) -> str:
        return self.codec.name

    @property
    def version(self) -> str:
        return f"{self.codec.digest.hex()[:16]}, {self.frames} frames a packet"

    def send(self, x: np.ndarray, loss: float) -> list[bytes]:
        """Packets of samples (n,) float32."""
        encoder = self.codec.encoder(self.setting, frames=self.frames)
        pieces = (encoder.push(x[k : k + PIECE]) for k in range(0, len(x), PIECE))
        return [packet for piece in pieces for packet in piece] + encoder.flush()

    def receive(self, packets: Sequence[bytes | None], length: int) -> np.ndarray:
        """Samples (length,) float32."""
        decoder = self.codec.decoder(frames=self.frames)
        parts = [decoder.push(packet) for packet in packets]
        return torch.cat([*parts, decoder.flush()])[:length].numpy()

    def about(self, packets: list[bytes]) -> dict[str, float]:
        """Bits that the codes alone take, by the entropy model."""
        bits = 0.0
        for codes, level in codes_of(self.codec, packets):
            coder = RateEstimator(len(codes), noise=False)
            self.codec.code(coder, codes, level)
            bits += float(coder.bits.sum())
        return {"bits of codes": bits}


@dataclass(frozen=True)
class Opus:
    """Opus in packets of 20 ms at a nominal rate in kbit/s."""

    setting: float
    name = "Opus without its neural enhancer"
    told = True

    @property
    def version(self) -> str:
        return opus.version()

    def send(self, x: np.ndarray, loss: float) -> list[bytes]:
        return opus.encoded(wave.steps(x), self.setting, loss)

    def receive(self, packets: Sequence[bytes | None], length: int) -> np.ndarray:
        return opus.decoded(packets, length) / np.float32(1 << 15)

    def about(self, packets: list[bytes]) -> dict[str, float]:
        """How many packets repeat the one before, coarser."""
        return {"packets with FEC": sum(map(opus.has_fec, packets))}


@dataclass(frozen=True)
class Samples:
    """16-bit samples in packets of 20 ms, silence in place of lost ones."""

    setting: float = 16 * RATE / 1000
    name, version, told = "16-bit samples", "", False

    def send(self, x: np.ndarray, loss: float) -> list[bytes]:
        pieces = np.pad(wave.steps(x), (0, -len(x) % PIECE)).reshape(-1, PIECE)
        return [piece.tobytes() for piece in pieces]

    def receive(self, packets: Sequence[bytes | None], length: int) -> np.ndarray:
        data = b"".join(packet or bytes(2 * PIECE) for packet in packets)
        return np.frombuffer(data, np.int16)[:length] / np.float32(1 << 15)

    def about(self, packets: list[bytes]) -> dict[str, float]:
        return {}


def codes_of(codec: Codec, packets: list[bytes]) -> list[tuple[torch.Tensor, float]]:
    """Codes (B, C, frames) and the level of those packets that are alike."""
    alike = defaultdict(list)
    for codes, level in read_packets(codec, packets):
        alike[codes.shape, level].append(codes)
    return [(torch.stack(group), level) for (_, level), group in alike.items()]


def qualities(
    codec: Codec, frames: int, wanted: Sequence[float], sounds: list[np.ndarray]
) -> list[float]:
    """The highest quality whose packets take at most each of ``wanted`` kbit/s.

    The lowest where none does; each once. Packets of every level are those that an
    encoder makes: the finest codes, coarser.
    """
    of_level = {int(codec.level_of(quality)): float(quality) for quality in range(101)}
    seconds = sum(map(len, sounds)) / RATE
    best = Ours(codec, 100.0, frames)
    finest = codes_of(codec, [p for x in sounds for p in best.send(x, 0.0)])

    @functools.cache
    def kbps(level: int) -> float:
        coarser = (codec.coarsened(codes, level) for codes, _ in finest)
        packets = [p for codes in coarser for p in write_packets(codec, codes, level)]
        return 8 * sum(map(len, packets)) / seconds / 1000

    levels = sorted(of_level)
    places = [bisect.bisect_right(levels, rate, key=kbps) for rate in wanted]
    return list(dict.fromkeys(of_level[levels[max(place - 1, 0)]] for place in places))


def timed(work, *given):
    """What work returns, and seconds of this process."""
    begun = time.process_time()
    found = work(*given)
    return found, time.process_time() - begun


def row_of(call, sent, x: np.ndarray, network: LossyNetwork, names: list[str]) -> dict:
    """What becomes of one recording (n,) in one call; ``sent``: packets, seconds."""
    packets, seconds = sent
    carried = list(network.carry(packets))
    heard, to_receive = timed(call.receive, carried, len(x))
    scores, notes = MEASURES.score(x, wave.as_heard(heard), names)
    return {
        "seconds": len(x) / RATE,
        "packets": len(packets),
        "packets lost": carried.count(None),
        "bytes": sum(map(len, packets)),
        **call.about(packets),
        "seconds of sender": seconds,
        "seconds of receiver": to_receive,
        "scores": scores,
        "notes": notes,
    }


def rows_of(codec: Codec, args: Namespace) -> Iterator[dict]:
    """Rows of all recordings, from ``args.rows`` where they are known."""
    _, items = SPEECH.open(args.sounds)
    sounds = {item.name: item.read() for item in items[: args.limit]}
    tried = list(sounds.values())[:: max(1, len(sounds) // TRIED)]
    ours = qualities(codec, args.frames, args.kbps, tried)
    calls = [Ours(codec, quality, args.frames) for quality in ours]
    calls += [*map(Opus, args.opus), Samples()]
    path, rules = Path(args.rows), MEASURES.rules(args.measures)
    text = path.read_text() if path.exists() else ""
    path.write_text(text[: text.rfind("\n") + 1])  # a killed run left half a line
    rows = map(json.loads, path.read_text().splitlines())
    known = {json.dumps(row["of"]): row for row in rows}
    calls[0].receive(calls[0].send(tried[0], 0.0), 0)  # what is built once
    for place, (name, x) in enumerate(sounds.items()):
        print(f"{place + 1} of {len(sounds)}: {name}", file=sys.stderr)
        sent = functools.cache(lambda call, loss, x=x: timed(call.send, x, loss))
        for call in calls:
            for loss in args.losses:
                of = {
                    "recording": name,
                    "digest": SPEECH.item.digest(x),
                    "codec": call.name,
                    "version": call.version,
                    "setting": call.setting,
                    "loss": loss,
                    "burst": args.burst,
                    "seed": args.seed + place,
                    "rules": rules,
                }
                row = known.get(json.dumps(of))
                if row is None:
                    network = LossyNetwork(loss, args.burst, args.seed + place)
                    own = sent(call, loss if call.told else 0.0)
                    row = {"of": of, **row_of(call, own, x, network, list(rules))}
                    with path.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                yield row


def quality(codec: Codec, args: Namespace) -> dict:
    """Means of what is heard at each rate and loss, beside Opus."""
    torch.set_num_threads(1)
    groups = defaultdict(list)
    for row in rows_of(codec, args):
        groups[row["of"]["codec"], row["of"]["setting"], row["of"]["loss"]].append(row)
    return {
        "burst": args.burst,
        "measures": MEASURES.rules(args.measures),
        "skipped": MEASURES.skipped(args.measures),
        "calls": [
            {"codec": codec, "setting": setting, "loss": loss, **means(rows)}
            for (codec, setting, loss), rows in groups.items()
        ],
    }


def means(rows: list[dict]) -> dict:
    """Rates and times of all speech together, means of scores over recordings."""

    def share(part: str, whole: str, scale: float = 1.0) -> float:
        total = sum(row[whole] for row in rows)
        return round(scale * sum(row[part] for row in rows) / total, 4)

    found = {
        "recordings": len(rows),
        "kbit/s": share("bytes", "seconds", 0.008),
        "packets lost": share("packets lost", "packets"),
        "sender, seconds a second": share("seconds of sender", "seconds"),
        "receiver, seconds a second": share("seconds of receiver", "seconds"),
    }
    if "bits of codes" in rows[0]:
        found["kbit/s of codes"] = share("bits of codes", "seconds", 0.001)
    if "packets with FEC" in rows[0]:
        found["packets with FEC"] = share("packets with FEC", "packets")
    for name in rows[0]["scores"]:
        values = [row["scores"][name] for row in rows]
        values = [value for value in values if value is not None]
        found[name] = round(float(np.mean(values)), 3) if values else None
        if len(values) < len(rows):
            found[f"{name}, unjudged"] = len(rows) - len(values)
    return found
