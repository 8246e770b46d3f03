# SPDX-License-Identifier: Apache-2.0
"""Live speech over pipes: raw samples and WAVs in, packets, samples out."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import pathlib
import sys
import threading
import types
import wave

import numpy as np
import pytest
from live_codecs import live_codec, sound

from polycodec.codecs.files.speech.live import decode_live, encode_live
from polycodec.codecs.signals.packets import size_of
from polycodec.errors import BitstreamError, InputError, TruncatedError

HOP = 320


@pytest.fixture(scope="module")
def pcm() -> bytes:
    return np.rint(32767 * sound(10 * HOP + 50)).astype("<i2").tobytes()


@pytest.fixture(scope="module")
def packets(pcm) -> bytes:
    return encoded(pcm)


def encoded(data: bytes, **options) -> bytes:
    target = io.BytesIO()
    encode_live(live_codec(), io.BytesIO(data), target, **options)
    return target.getvalue()


def wav(pcm: bytes, channels=1, width=2, rate=16000) -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(pcm)
    return target.getvalue()


def test_samples_go_through_pipes_as_they_come(pcm, packets):
    """Two ends that talk: what is complete is there before more comes in."""
    (mouth, to), (ear, out) = os.pipe(), os.pipe()
    ends = os.fdopen(mouth, "rb"), os.fdopen(out, "wb")
    work = threading.Thread(target=encode_live, args=(live_codec(), *ends))
    work.start()
    os.write(to, pcm[: 4 * HOP])  # two frames: the first is complete
    first = os.read(ear, 100)
    assert size_of(first) == len(first)
    os.write(to, pcm[4 * HOP :])
    os.close(to)
    work.join(60)
    ends[1].close()
    rest = b"".join(iter(lambda: os.read(ear, 4096), b""))
    assert first + rest == packets
    ends[0].close()
    os.close(ear)


def test_what_comes_out_is_as_long_and_what_a_decoder_says(pcm, packets):
    target = io.BytesIO()
    said = decode_live(live_codec(), io.BytesIO(packets), target)
    assert said.packets == 11 and said.damaged == 0 and said.bytes == len(packets)
    assert len(target.getvalue()) == 2 * 11 * HOP and said.seconds == 0.22
    assert "11 packets, 0.22 s" in said.line()
    assert np.frombuffer(target.getvalue(), "<i2").any()


def test_a_wav_is_its_samples(pcm, packets):
    assert encoded(wav(pcm)) == packets
    assert encoded(wav(pcm) + b"LIST\4\0\0\0a, b") == packets
    endless = wav(pcm).replace((len(pcm)).to_bytes(4, "little"), b"\xff" * 4)
    assert encoded(endless) == packets
    for wrong, word in [
        (wav(pcm, channels=2), "2 channels"),
        (wav(pcm, width=1), "8 bits"),
        (wav(pcm, rate=8000), "8000"),
        (wav(pcm)[:30], "begin"),
        (pcm[:-1], "cut"),
        (b"", "no samples"),
        (b"fLaC" + pcm, "begins like a file"),
        (b"OggS" + pcm, "convert it"),
        (b"\x89PNG\r\n\x1a\n" + pcm, "begins like a file"),
        (b"\xff\xd8\xff\xe0" + pcm, "begins like a file"),
        (b"\x93PLC" + pcm, "begins like a file"),
    ]:
        with pytest.raises(InputError, match=word):
            encoded(wrong)


def test_damage_is_concealed_or_named(packets):
    target = io.BytesIO()
    bad = bytearray(packets)
    bad[size_of(packets) + 1] ^= 1  # the check of the second packet
    said = decode_live(live_codec(), io.BytesIO(bad), target)
    assert said.damaged == 1 and len(target.getvalue()) == 2 * 11 * HOP
    for wrong, error, word in [
        (packets[:-1], TruncatedError, "packet 11"),
        (packets + b"text", BitstreamError, f"byte {len(packets)}"),
        (b"RIFF" + packets, BitstreamError, "byte 0"),
    ]:
        with pytest.raises(error, match=word):
            decode_live(live_codec(), io.BytesIO(wrong), target)
    with pytest.raises(BitstreamError, match="all of 11"):
        decode_live(live_codec(1), io.BytesIO(packets), target)


def test_the_command_line_goes_from_pipe_to_pipe(monkeypatch, capsys, pcm, packets):
    from polycodec.cli.main import main
    from polycodec.codecs import zoo

    monkeypatch.setattr(zoo, "load", lambda *_, **__: live_codec())

    def run(given: bytes, *args: str) -> tuple[int, bytes, str]:
        out = io.BytesIO()
        text = io.TextIOWrapper(out, write_through=True)
        monkeypatch.setattr(
            sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(given))
        )
        monkeypatch.setattr(sys, "stdout", text)
        with pytest.raises(SystemExit) as ended:
            main(list(args))
        return ended.value.code, out.getvalue(), capsys.readouterr().err

    code, data, said = run(pcm, "encode", "-", "--live", "-q", "50")
    assert code == 0 and data == encoded(pcm, quality=50) and "11 packets" in said
    code, _, said = run(pcm, "encode", "-", "--live", "--json")
    assert code == 0 and json.loads(said)["packets"] == 11
    code, _, said = run(b"", "decode", "-", "--live")
    assert code == 4 and "no packets" in said
    code, data, _ = run(packets, "decode", "-", "--live", "-m", "speech/x")
    assert code == 0 and len(data) == 2 * 11 * HOP
    for args, word in [
        (("encode", "a.wav", "--live"), "pipe to pipe"),
        (("encode", "-", "--live", "--target-kbps", "3"), "--target-kbps"),
        (("encode", "-", "--packet", "2"), "--live"),
        (("decode", "-", "-m", "speech/live"), "--live"),
    ]:
        code, _, said = run(b"", *args)
        assert code == 2 and word in said


def test_the_example_calls_over_udp_and_loses_packets():
    """Every packet that comes is heard in its turn, those before it are concealed."""
    path = pathlib.Path(__file__).parents[2] / "docs" / "udp.py"
    spec = importlib.util.spec_from_file_location("udp_example", path)
    udp = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(udp)
    options = udp.parsed(["-", "-", "--loss", "0.2", "--seed", "2", "--speed", "50"])
    x = np.rint(32767 * sound(60 * HOP)).astype(np.int16)
    y, counts = udp.call(live_codec(), x, options)
    assert counts["came"] >= 30 and counts["lost"] >= 3
    assert counts["late"] == counts["damaged"] == 0
    assert len(y) == HOP * (counts["came"] + counts["lost"])
    assert counts["came"] + counts["lost"] <= 60 and y.any()
