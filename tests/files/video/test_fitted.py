# SPDX-License-Identifier: Apache-2.0
"""Videos by models that are fitted: time, size, Ctrl-C, resuming, parts, refusals."""

from __future__ import annotations

import signal

import pytest
from clips import read_clip, tiny_codec, write_clip

from polycodec import decode, encode
from polycodec.codecs.files import fit
from polycodec.codecs.fitting.plan import Plan
from polycodec.errors import InputError, UsageError

MODEL = "video/nerv-small"


@pytest.fixture
def clip(tmp_path):
    pytest.importorskip("av")
    write_clip(tmp_path / "clip.mkv", frames=5, size=(32, 48))
    return tmp_path / "clip.mkv"


def test_a_clip_is_fitted_within_its_bytes_and_any_frame_decodes(clip, tmp_path):
    out = tmp_path / "clip.plc"
    done = encode(clip, out, model=MODEL, effort=12, target_size=2500)
    assert (done.model, done.frames) == (MODEL, 5)
    assert done.bytes == out.stat().st_size <= 2500
    assert not list(tmp_path.glob("*.fit*"))
    decode(out, tmp_path / "whole.mkv")
    decode(out, tmp_path / "part.mkv", frames=(3, 4))
    whole, part = (read_clip(tmp_path / f"{n}.mkv")[1] for n in ("whole", "part"))
    assert len(whole) == 5 and len(part) == 1
    for one, other in zip(whole[3].planes, part[0].planes, strict=True):
        assert (one == other).all()


def test_an_interrupt_writes_what_there_is_and_resume_goes_on(
    clip, tmp_path, interrupted
):
    out, seen = tmp_path / "clip.plc", interrupted(3)
    before = signal.getsignal(signal.SIGINT)
    first = encode(clip, out, model=MODEL, effort=6)
    assert signal.getsignal(signal.SIGINT) is before
    assert any("stopped at step 3" in note for note in first.notes)
    assert (tmp_path / "clip.plc.fit0").is_file()
    with pytest.raises(
        InputError, match=r"stopped here; --resume .*.*clip\.plc\.fit\*"
    ):
        encode(clip, out, model=MODEL, effort=6, force=True)
    second = encode(clip, out, model=MODEL, effort=6, resume=True)
    assert any("resumed at step 3" in note for note in second.notes)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert not (tmp_path / "clip.plc.fit0").exists()
    whole = encode(clip, tmp_path / "whole.plc", model=MODEL, effort=6)
    assert (tmp_path / "whole.plc").read_bytes() == out.read_bytes()
    assert not whole.notes


def test_who_ends_the_process_is_told_what_is_left(clip, tmp_path):
    kept = tmp_path / "clip.plc.fit"
    for left in ("", f"{kept}0 keeps the fit, --resume goes on"):
        with pytest.raises(KeyboardInterrupt) as error, fit.keeping(Plan(kept=kept)):
            raise KeyboardInterrupt
        assert str(error.value) == left
        (tmp_path / "clip.plc.fit0").touch()


def test_no_byte_is_left_for_frames_beside_their_sound(clip, tmp_path):
    for codec in (None, tiny_codec()):
        with pytest.raises(UsageError, match="leaves nothing beside the"):
            encode(
                clip,
                tmp_path / "a.plc",
                model=MODEL if codec is None else None,
                codec=codec,
                target_size=20,
            )


def test_what_was_not_fitted_is_named_and_is_not_taken_for_begun(
    clip, tmp_path, interrupted
):
    out, steps = tmp_path / "clip.plc", interrupted(1)
    given = {"model": MODEL, "effort": 5, "gop": 2}
    first = encode(clip, out, **given)
    assert "frames 2:5 were not fitted; --resume goes on" in first.notes
    assert sum("stopped" in note for note in first.notes) == 1
    assert [path.name for path in tmp_path.glob("*.fit*")] == ["clip.plc.fit0"]
    encode(clip, out, resume=True, **given)
    assert steps == [1, 2, 1, 2, 1]
    encode(clip, tmp_path / "whole.plc", **given)
    assert (tmp_path / "whole.plc").read_bytes() == out.read_bytes()


def test_resume_without_what_it_goes_on_with_begins_and_says_so(clip, tmp_path):
    given = {"model": MODEL, "effort": 2, "resume": True}
    done = encode(clip, tmp_path / "a.plc", **given)
    assert done.notes == ["no fit was kept to go on with; it began anew"]
    with pytest.raises(InputError, match="exists already; use --force"):
        encode(clip, tmp_path / "a.plc", **given)


@pytest.mark.parametrize(
    "option", [{"time_budget": 3.0}, {"resume": True}, {"effort": 2}], ids=str
)
def test_options_of_fits_are_refused_of_other_models(clip, tmp_path, option):
    with pytest.raises(UsageError, match=next(iter(option)).replace("_", "-")):
        encode(clip, tmp_path / "a.plc", codec=tiny_codec(), **option)
    assert not (tmp_path / "a.plc").exists()
