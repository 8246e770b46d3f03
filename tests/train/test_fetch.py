# SPDX-License-Identifier: Apache-2.0
"""Free recorded speech: licences are read, prompts joined, speakers held out."""

from __future__ import annotations

import numpy as np
import pytest

from polycodec.errors import InputError
from polycodec.train.speech import fetch

COPYRIGHT = """Format: 1.0

Files: *
Copyright: 2003-2010, Allison Smith
Comment: recorded by
 Allison Smith
License: CC-BY-SA-3.0

Files: fr-*
Copyright: 2006-2008, June Wallack
License: CC-BY-SA-3.0

Files: ru-*
Copyright: 2010, Maxim
License: CC-BY-3.0

Files: it-*
Copyright: 2012 Carlo Flora, somewhere
License: CC-BY-3.0
"""


def test_a_license_is_what_the_package_says_or_nothing_is_made():
    *prompts, dialogues = fetch.VOICES
    for voice in prompts:
        voice.check(COPYRIGHT)
    dialogues.check(
        "GNU General Public License as published by\n   the Free Software "
        "Foundation; version 2 dated June, 1991."
    )
    with pytest.raises(InputError, match="decide anew"):
        dialogues.check("All rights reserved, General Public License or not")
    italian = fetch.VOICES[0]
    changed = COPYRIGHT.replace("CC-BY-3.0", "CC-BY-SA-3.0")
    with pytest.raises(InputError, match="CC-BY-SA"):
        italian.check(changed)
    with pytest.raises(InputError, match="Somebody"):
        italian.check(COPYRIGHT.replace("Carlo Flora", "Somebody"))
    with pytest.raises(InputError, match="nothing"):
        italian.check("Files: debian/*\nLicense: GPL-2+\n")


def test_share_alike_recordings_and_their_speakers_teach_nothing():
    taught = {voice.speaker for voice in fetch.VOICES if voice.train}
    held = {voice.speaker for voice in fetch.VOICES if not voice.train}
    assert taught and held and not taught & held
    assert all(v.license == "CC-BY-3.0" for v in fetch.VOICES if v.train)


def test_a_package_becomes_recordings(tmp_path):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
    voice, root = fetch.VOICES[0], tmp_path / "package"
    sounds = root / "usr/share/asterisk/sounds/it_IT"
    for folder in (sounds / "silence", root / "usr/share/doc/package"):
        folder.mkdir(parents=True)
    (root / "usr/share/doc/package/copyright").write_text(COPYRIGHT)
    t = np.arange(4 * 16000) / 16000
    x = (8000 * np.sin(2 * np.pi * 300 * t)).astype(np.int16)
    for name in ("a", "b", "c", "d", "beep", "silence/1", "quiet"):
        with av.open(str(sounds / f"{name}.g722"), "w", format="g722") as file:
            stream = file.add_stream("g722", rate=16000, layout="mono")
            data = x[None] if name != "quiet" else 0 * x[None]
            frame = av.AudioFrame.from_ndarray(data, format="s16", layout="mono")
            frame.sample_rate = 16000
            file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    rows = fetch.convert(voice, root, tmp_path)
    assert [row["file"] for row in rows] == ["it-000.flac", "it-001.flac"]
    assert [round(float(row["seconds"])) for row in rows] == [12, 4]
    y, rate = soundfile.read(tmp_path / "train" / "it-000.flac")
    assert rate == 16000 and np.sqrt(np.mean(y**2)) == pytest.approx(0.173, rel=0.05)
    other = tmp_path / "other"
    other.mkdir()
    soundfile.write(other / "z.flac", y, 16000)
    (other / "index.tsv").write_text("file\tspeaker\nz.flac\tanna\n")
    (row,) = fetch.beside(other, tmp_path)
    assert row["speaker"] == "anna" and (tmp_path / "train" / "z.flac").is_file()
    assert set(rows[0]) == set(fetch.COLUMNS)
