# SPDX-License-Identifier: Apache-2.0
"""Sounds by models that are fitted to them, as files."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from polycodec import decode, encode, tokens
from polycodec.codecs.files.container.file import Reader
from polycodec.errors import InputError, ModelError, UsageError

CONFIG = """
codec:
  name: implicit
  signal: { name: speech, rate: 1000, block: 700, condition: false }
  bpp: [0.5, 8.0]
  network: { name: coordinates, depth: 2, first: 15.0 }
  fit: { lr: 0.003, packed: false }
"""


@pytest.fixture
def given(tmp_path):
    """The options for a config of one's own."""
    (tmp_path / "own.yaml").write_text(CONFIG)
    return {"model": "own", "checkpoint": tmp_path / "own.yaml"}


@pytest.fixture
def sound(tmp_path):
    """12 s of two hums: two chunks, of two channels."""
    t = np.arange(12000) / 1000
    x = np.stack([0.5 * np.sin(2 * t), 0.4 * np.sin(3 * t)], axis=1)
    soundfile.write(tmp_path / "hum.wav", x, 1000)
    return tmp_path / "hum.wav"


def test_a_sound_goes_there_and_back_whole_and_in_part(sound, given, tmp_path):
    out, more = tmp_path / "hum.plc", {"channels": "keep", "target_size": 2500}
    done = encode(sound, out, effort=60, **given, **more)
    assert done.bytes == out.stat().st_size <= 2500 and done.channels == 2
    assert not list(tmp_path.glob("*.fit*"))
    back = {"checkpoint": given["checkpoint"]}
    decode(out, tmp_path / "whole.wav", **back)
    decode(out, tmp_path / "part.wav", seconds=(9.5, 10.7), **back)
    x, whole, part = (
        soundfile.read(tmp_path / f"{name}.wav")[0] for name in ("hum", "whole", "part")
    )
    assert whole.shape == x.shape and np.array_equal(part, whole[9500:10700])
    error = ((whole - x) ** 2).mean(axis=0)
    assert (error < 0.5 * (x**2).mean(axis=0)).all()


def test_a_damaged_chunk_is_silent_and_the_other_is_not(sound, given, tmp_path):
    out = tmp_path / "hum.plc"
    encode(sound, out, effort=8, **given)
    with out.open("rb") as file:
        reader = Reader(file)
        size = len(reader.chunk(1))
    data = bytearray(out.read_bytes())
    data[-size // 2] ^= 1
    out.write_bytes(data)
    done = decode(
        out, tmp_path / "back.wav", salvage=True, checkpoint=given["checkpoint"]
    )
    assert done.damaged == [(10.0, 12.0)]
    back, _ = soundfile.read(tmp_path / "back.wav")
    assert back[:10000].any() and not back[10000:].any()


def test_an_interrupt_writes_what_there_is_and_resume_goes_on(
    sound, given, tmp_path, interrupted
):
    out, seen = tmp_path / "hum.plc", interrupted(2)
    first = encode(sound, out, effort=12, **given)
    assert any("stopped at step 2" in note for note in first.notes)
    assert "seconds 10:12 were not fitted; --resume goes on" in first.notes
    encode(sound, out, effort=12, resume=True, **given)
    assert len(seen) == 12 and not list(tmp_path.glob("*.fit*"))
    encode(sound, tmp_path / "whole.plc", effort=12, **given)
    assert (tmp_path / "whole.plc").read_bytes() == out.read_bytes()


def test_what_it_cannot_do_is_named(sound, given, tmp_path, sound_codec):
    with pytest.raises(UsageError, match="leaves nothing beside"):
        encode(sound, tmp_path / "a.plc", target_size=40, **given)
    with pytest.raises(UsageError, match="bytes at least; expected"):
        encode(sound, tmp_path / "a.plc", target_size=90, effort=2, **given)
    with pytest.raises(UsageError, match="effort is for models that are fitted"):
        encode(sound, tmp_path / "a.plc", codec=sound_codec, effort=3)
    with pytest.raises((ModelError, InputError), match="codebooks"):
        tokens(sound, tmp_path / "a.npz", **given)
    assert not (tmp_path / "a.plc").exists()
