# SPDX-License-Identifier: Apache-2.0
"""A call over UDP on this machine, with a network that loses packets.

    python docs/udp.py talk.wav heard.wav --loss 0.1

    talk.wav ─ encoder ─ number + packet ─► UDP ─► lost or not ─ decoder ─ heard.wav

One thread speaks at the pace of speech, the other hears. A datagram is a number of two
bytes, which says what is missing, and a packet. talk.wav: 16-bit, mono, of the codec's
rate.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
import wave

import numpy as np

import polycodec
from polycodec.codecs.base import Codec
from polycodec.codecs.signals.losses import LossyNetwork
from polycodec.errors import BitstreamError

WAIT = 0.5  # seconds of nothing after the last word, until a call is over
MOST_MISSING = 50  # packets in a row that are concealed


def speak(codec: Codec, x: np.ndarray, options: argparse.Namespace, to: tuple) -> None:
    """Send the samples as they would be spoken."""
    encoder = codec.encoder(options.quality, frames=options.frames)
    network, number = LossyNetwork(options.loss, seed=options.seed), 0
    piece, started = codec.stride, time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        for at in range(0, len(x), piece):
            due = started + (at + piece) / codec.signal.rate / options.speed
            time.sleep(max(0.0, due - time.monotonic()))
            last = at + piece >= len(x)
            packets = encoder.push(x[at : at + piece])
            for packet in packets + (encoder.flush() if last else []):
                if not network.loses():
                    line.sendto(number.to_bytes(2, "big") + packet, to)
                number = (number + 1) % (1 << 16)


def hear(
    codec: Codec, line: socket.socket, mouth: threading.Thread
) -> tuple[list[np.ndarray], dict[str, int]]:
    """What is heard until nothing comes any more, and what happened."""
    decoder, expected, heard = codec.decoder(), 0, []
    counts = {"came": 0, "lost": 0, "late": 0, "damaged": 0}
    while True:
        try:
            data = line.recv(1 << 16)
        except TimeoutError:
            if mouth.is_alive():
                continue
            if counts["came"]:
                heard.append(decoder.flush().numpy())
            return heard, counts
        ahead = (int.from_bytes(data[:2], "big") - expected) % (1 << 16)
        if ahead >= 1 << 15:  # its turn is over
            counts["late"] += 1
            continue
        for _ in range(min(ahead, MOST_MISSING)):
            counts["lost"] += 1
            heard.append(decoder.push(None).numpy())
        try:
            heard.append(decoder.push(data[2:]).numpy())
            counts["came"] += 1
        except BitstreamError:
            counts["damaged"] += 1
            heard.append(decoder.push(None).numpy())
        expected = (expected + ahead + 1) % (1 << 16)


def call(
    codec: Codec, x: np.ndarray, options: argparse.Namespace
) -> tuple[np.ndarray, dict[str, int]]:
    """Samples that arrive of samples that are spoken, both int16."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.bind(("127.0.0.1", 0))
        line.settimeout(WAIT)
        to = line.getsockname()
        mouth = threading.Thread(target=speak, args=(codec, x, options, to))
        mouth.start()
        heard, counts = hear(codec, line, mouth)
        mouth.join()
    y = np.concatenate([np.zeros(0, np.float32), *heard])
    return np.clip(np.rint(y * 32768), -32768, 32767).astype(np.int16), counts


def parsed(args: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("talk")
    parser.add_argument("heard")
    parser.add_argument("--model", default="speech/live")
    parser.add_argument("--checkpoint")
    parser.add_argument("--quality", type=float, default=35.0)
    parser.add_argument("--frames", type=int, default=1, help="of a packet")
    parser.add_argument("--loss", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", type=float, default=1.0, help="1: as it is spoken")
    return parser.parse_args(args)


def main() -> None:
    """Command line."""
    options = parsed()
    codec = polycodec.load(options.model, checkpoint=options.checkpoint)
    with wave.open(options.talk) as file:
        shape = file.getnchannels(), file.getsampwidth(), file.getframerate()
        if shape != (1, 2, codec.signal.rate):
            raise SystemExit(f"{shape}; expected mono, 2 bytes, {codec.signal.rate} Hz")
        x = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    y, counts = call(codec, x.astype(np.int16), options)
    with wave.open(options.heard, "wb") as file:
        file.setparams((1, 2, codec.signal.rate, 0, "NONE", ""))
        file.writeframes(y.astype("<i2").tobytes())
    print(counts)


if __name__ == "__main__":
    main()
