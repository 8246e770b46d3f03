# SPDX-License-Identifier: Apache-2.0
"""`docs/checks/live.py quality`: Opus by libopus itself, rates of packets, rows."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("av", reason="needs PyAV and the libopus in its wheel")

from live_codecs import LEVELS, live_codec, sound
from signals import voice

from polycodec.codecs.signals.packets import read_packets
from polycodec.eval.speech import wave

CHECKS = Path(__file__).parents[2] / "docs" / "checks"


@pytest.fixture
def check(monkeypatch):
    """A module of docs/checks by its name."""
    monkeypatch.syspath_prepend(str(CHECKS))
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)


@pytest.fixture
def opus(check):
    module = check("opus")
    try:
        module.library()
    except OSError as reason:
        pytest.skip(str(reason))
    return module


def test_opus_stands_where_the_recording_does(opus):
    x = voice(3.0)
    for kbps in (8, 24):
        packets = opus.encoded(wave.steps(x), kbps)
        assert 0.6 * kbps < 8 * sum(map(len, packets)) / 3000 < 1.05 * kbps
        assert not any(map(opus.has_fec, packets))
        heard = opus.decoded(packets, len(x)) / np.float32(1 << 15)
        assert heard.shape == x.shape and abs(wave.lag_of(x, heard)) <= 2


def test_a_lost_packet_is_heard_from_the_fec_data_of_the_next(opus):
    x = voice(3.0)
    packets = opus.encoded(wave.steps(x), 32, 0.2)
    lost = [k for k in range(10, 140, 5) if opus.has_fec(packets[k + 1])]
    assert len(lost) > 10
    come = [None if k in lost else packet for k, packet in enumerate(packets)]

    whole = opus.decoded(packets, len(x)) / 32768

    def error(heard):
        return float(np.square(heard / 32768 - whole).mean())

    concealing = opus.Decoder()
    parts = np.concatenate([concealing.push(packet) for packet in come])
    late = opus.Encoder(16).lookahead
    concealed = parts[late : late + len(x)]
    assert error(opus.decoded(come, len(x))) < 0.7 * error(concealed)
    with pytest.raises(RuntimeError, match="libopus: corrupted"):
        opus.Decoder().push(b"\xff\xff\xff")


def test_qualities_are_chosen_by_bytes_of_packets(check):
    quality, codec, x = check("quality"), live_codec(), sound(16000)

    def sent(setting):
        return quality.Ours(codec, setting, 2).send(x, 0.0)

    def kbps(setting):
        return 8 * sum(map(len, sent(setting))) / 1000

    least, middle, most = (kbps(q) for q in (0.0, 50.0, 100.0))
    assert least < middle < most
    found = quality.qualities(codec, 2, [least / 2, middle, middle + 0.01, 99], [x])
    assert [int(codec.level_of(q)) for q in found] == [1, codec.level_of(50.0), LEVELS]
    assert kbps(found[1]) == middle
    # Heads and checks aside, codes are near what packets hold.
    bits = quality.Ours(codec, 100.0, 2).about(sent(100.0))["bits of codes"]
    count = sum(codes.numel() for codes, _ in read_packets(codec, sent(100.0)))
    bytes_beside = 8 * sum(map(len, sent(100.0))) - bits
    assert 0 < bits <= 4.5 * count and 16 <= bytes_beside / len(sent(100.0)) <= 32


def test_rows_are_kept_and_all_codecs_lose_the_same_packets(check, opus, tmp_path):
    quality = check("quality")
    x = sound(24000)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_bytes(wave.stored(x, "WAV"))
    args = argparse.Namespace(
        sounds=str(tmp_path / "in"),
        rows=str(tmp_path / "rows.jsonl"),
        **{"kbps": [99.0], "opus": [16.0], "losses": [0.0, 0.2], "measures": ["mel"]},
        **{"burst": 1.5, "frames": 1, "seed": 3, "limit": None},
    )
    table = quality.quality(live_codec(), args)
    lines = Path(args.rows).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == len(table["calls"]) == 3 * 2
    lost = {row["of"]["codec"]: row["packets lost"] for row in rows[1::2]}
    assert len(lost) == 3 and len(set(lost.values())) == 1 and rows[1]["packets lost"]
    for clean, worse in zip(rows[::2], rows[1::2], strict=True):
        assert clean["packets lost"] == 0
        assert clean["scores"]["mel"] != worse["scores"]["mel"]
    samples = table["calls"][-2]
    assert samples["kbit/s"] == pytest.approx(256) and samples["mel"] == 0
    # A killed run: half a line. What is known is not measured again.
    rows[0]["scores"]["mel"] = 7.0
    kept = [json.dumps(row) for row in rows[:-1]]
    Path(args.rows).write_text("\n".join([*kept, lines[-1][:50]]))
    again = quality.quality(live_codec(), args)
    assert again["calls"][0]["mel"] == 7.0
    assert again["calls"][-1]["mel"] == table["calls"][-1]["mel"]
    assert len(Path(args.rows).read_text().splitlines()) == 6
