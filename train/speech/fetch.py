# SPDX-License-Identifier: Apache-2.0
"""Free recorded speech of Debian, as FLAC to train and to validate on.

    python -m polycodec.train.speech.fetch data/prompts [--beside speech-train]

    apt-get download ─► licence read ─► decoded ─► joined to 10 s ─► FLAC, 16 kHz

    data/prompts/train/      may go into weights of ours      index.tsv says who speaks
    data/prompts/heldout/    speakers that nothing trains on  what, under what licence

The packages `asterisk-core-sounds-*-g722`: prompts of telephone exchanges, 131 minutes,
one speaker a language, two languages by one. Their copyright file says:

    it   Carlo Flora      CC-BY-3.0       train: attribution is given on the card
    ru   Maxim Topal      CC-BY-3.0       train
    en   Allison Smith    CC-BY-SA-3.0    held out
    es   Allison Smith    CC-BY-SA-3.0    held out
    fr   June Wallack     CC-BY-SA-3.0    held out

Whether weights are an adaptation of what they learned from is not settled. If they are,
those of CC-BY recordings may have any licence, with credit; those of share-alike ones
would have to be shared alike, which Apache-2.0 is not. So share-alike recordings only
measure; as it happens, that leaves three languages and two speakers that no weights
know. All was recorded for G.722: sound up to 7 kHz.

Those under the GPL teach nothing either, for the same reason. `fillets-ng-data-cs`, the
Czech dialogues of a game between a woman and a man, is held out as a fourth language;
klettres-data, letters one by one, is left out.

The script refuses a package whose copyright file no longer says what stands above.
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polycodec.errors import InputError

RATE = 16000
LONGEST = 10 * RATE  # samples of a recording that prompts are joined to
SHORTEST = RATE // 4  # of a prompt
QUIET = 0.003  # root mean square of a prompt, at least
NO_SPEECH = re.compile(
    r"silence/|beep|tone|ascending|descending|confbridge-(join|leav)"
)
GPL_2 = "General Public License as published by the Free Software Foundation; version 2"
COLUMNS = ("split", "file", "speaker", "language", "license", "seconds", "credit")


@dataclass(frozen=True)
class Voice:
    """Of a package: who speaks, and what its copyright file must say of the files."""

    language: str
    speaker: str
    license: str
    pattern: str  # of files, as the copyright file has it
    train: bool
    files = "usr/share/asterisk/sounds/**/*.g722"

    @property
    def package(self) -> str:
        return f"asterisk-core-sounds-{self.language}-g722"

    def check(self, text: str) -> None:
        """InputError unless a copyright file gives the files the stated licence."""
        for part in re.split(r"\n\s*\n", text):
            fields = dict(re.findall(r"^(Files|Copyright|License): *(.*)$", part, re.M))
            if fields.get("Files") == self.pattern:
                found = fields.get("License", "none"), fields.get("Copyright", "nobody")
                if found[0] == self.license and self.speaker in found[1]:
                    return
                raise InputError(
                    f"{self.package}: '{self.pattern}' is of {found[1]} under "
                    f"{found[0]}; expected {self.speaker}, {self.license}; read its "
                    "copyright file, and decide anew"
                )
        raise InputError(
            f"{self.package}: the copyright file says nothing of '{self.pattern}'; "
            "read it, and decide anew"
        )


class Dialogues(Voice):
    """Two fish of a game; its copyright file is prose, ``pattern`` stands in it."""

    package = "fillets-ng-data-cs"
    files = "usr/share/games/fillets-ng/sound/*/cs/*-[mv]-*.ogg"

    def check(self, text: str) -> None:
        if self.pattern not in " ".join(text.split()):
            raise InputError(
                f"{self.package}: the copyright file does not say '{self.pattern}'; "
                "read it, and decide anew"
            )


VOICES = (
    Voice("it", "Carlo Flora", "CC-BY-3.0", "it-*", train=True),
    Voice("ru", "Maxim", "CC-BY-3.0", "ru-*", train=True),
    Voice("en", "Allison Smith", "CC-BY-SA-3.0", "*", train=False),
    Voice("es", "Allison Smith", "CC-BY-SA-3.0", "*", train=False),
    Voice("fr", "June Wallack", "CC-BY-SA-3.0", "fr-*", train=False),
    Dialogues("cs", "two actors", "GPL-2", GPL_2, train=False),
)


def unpacked(voice: Voice, folder: Path) -> Path:
    """Download and unpack a package below ``folder``; returns where it lies."""
    target = folder / voice.package
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        _run(["apt-get", "download", voice.package], folder)
        (archive,) = folder.glob(f"{voice.package}_*.deb")
        _run(["dpkg-deb", "-x", archive.name, f"{target.name}.part"], folder)
        (folder / f"{target.name}.part").rename(target)
    return target


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        what = f"there is no {command[0]}; expected a Debian with its tools"
        raise InputError(what) from None
    except subprocess.CalledProcessError as error:
        what = f"{' '.join(command)} failed; {error.stderr.strip()}"
        raise InputError(what) from None


def prompts(root: Path, files: str) -> Iterator[np.ndarray]:
    """Samples (n,) int16 of ``files`` below ``root``, without tones and silence."""
    for path in sorted(root.glob(files)):
        if NO_SPEECH.search(str(path.relative_to(root))):
            continue
        x = decoded(path)
        loud = float(np.sqrt(np.mean(np.square(x / 32768)))) if len(x) else 0.0
        if len(x) >= SHORTEST and loud >= QUIET:
            yield x


def decoded(path: Path) -> np.ndarray:
    """Samples (n,) int16 of a file, at 16 kHz; G.722 is of 64 kbit/s."""
    import av

    form = "g722" if path.suffix == ".g722" else None
    with av.open(str(path), format=form) as file:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        frames = [
            part.to_ndarray()[0]
            for frame in (*file.decode(audio=0), None)
            for part in resampler.resample(frame)
        ]
    return np.concatenate([np.zeros(0, np.int16), *frames]).astype(np.int16)


def joined(parts: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Prompts one after the other, in recordings of 10 s and a little more."""
    held: list[np.ndarray] = []
    for part in parts:
        held.append(part)
        if sum(map(len, held)) >= LONGEST:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def convert(voice: Voice, root: Path, out: Path) -> list[dict[str, str]]:
    """Write a voice's recordings; returns their rows of the index."""
    import soundfile

    voice.check(_copyright(root))
    split = "train" if voice.train else "heldout"
    (out / split).mkdir(parents=True, exist_ok=True)
    rows = []
    for k, x in enumerate(joined(prompts(root, voice.files))):
        path = out / split / f"{voice.language}-{k:03d}.flac"
        soundfile.write(path, x, RATE)
        seconds = f"{len(x) / RATE:.2f}"
        given = voice.speaker, voice.language, voice.license, seconds, voice.package
        rows.append(dict(zip(COLUMNS, (split, path.name, *given), strict=True)))
    if not rows:
        raise InputError(f"{voice.package} holds no speech; expected {voice.files}")
    return rows


def _copyright(root: Path) -> str:
    (path,) = root.glob("usr/share/doc/*/copyright")
    return path.read_text(encoding="utf-8")


def beside(folder: Path, out: Path) -> list[dict[str, str]]:
    """Rows of another folder's recordings, which are copied to those to train on."""
    rows, known = [], {}
    for table in (folder.parent / "index.tsv", folder / "index.tsv"):
        if table.is_file():
            with open(table, encoding="utf-8", newline="") as file:
                read = list(csv.DictReader(file, delimiter="\t"))
            known = {Path(row["file"]).name: row for row in read}
    for path in sorted(folder.glob("*.flac")):
        shutil.copy(path, out / "train" / path.name)
        row = {**dict.fromkeys(COLUMNS, ""), **known.get(path.name, {})}
        rows.append({**row, "split": "train", "file": path.name})
    return rows


def main(args: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--beside", type=Path, help="recordings to train on as well")
    given = parser.parse_args(args)
    rows = []
    for voice in VOICES:
        root = unpacked(voice, given.out / "packages")
        rows += convert(voice, root, given.out)
        seconds = sum(float(row["seconds"]) for row in rows)
        print(f"{voice.package}: {len(rows)} recordings, {seconds / 60:.1f} min so far")
    if given.beside:
        rows += beside(given.beside, given.out)
    with open(given.out / "index.tsv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
