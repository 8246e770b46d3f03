# SPDX-License-Identifier: Apache-2.0
"""Free recorded speech of Debian, as FLAC to train and to validate on.

    python -m polycodec.train.speech.fetch data/prompts [--beside speech-train]

    apt-get download ─► licence read ─► G.722 decoded ─► joined to 10 s ─► FLAC, 16 kHz

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
know. Recordings under the GPL (klettres-data, fillets-ng-data-cs) are left out for the
same reason. All was recorded for G.722: sound up to 7 kHz.

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
COLUMNS = ("split", "file", "speaker", "language", "license", "seconds", "credit")


@dataclass(frozen=True)
class Voice:
    """Of a package: who speaks, and what its copyright file must say of the files."""

    language: str
    speaker: str
    license: str
    pattern: str  # of files, as the copyright file has it
    train: bool

    @property
    def package(self) -> str:
        return f"asterisk-core-sounds-{self.language}-g722"


VOICES = (
    Voice("it", "Carlo Flora", "CC-BY-3.0", "it-*", train=True),
    Voice("ru", "Maxim", "CC-BY-3.0", "ru-*", train=True),
    Voice("en", "Allison Smith", "CC-BY-SA-3.0", "*", train=False),
    Voice("es", "Allison Smith", "CC-BY-SA-3.0", "*", train=False),
    Voice("fr", "June Wallack", "CC-BY-SA-3.0", "fr-*", train=False),
)


def check_license(text: str, voice: Voice) -> None:
    """InputError unless a copyright file gives a voice's files the stated licence."""
    for part in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^(Files|Copyright|License): *(.*)$", part, re.M))
        if fields.get("Files") == voice.pattern:
            found = fields.get("License", "none"), fields.get("Copyright", "nobody")
            if found[0] == voice.license and voice.speaker in found[1]:
                return
            raise InputError(
                f"{voice.package}: '{voice.pattern}' is of {found[1]} under "
                f"{found[0]}; expected {voice.speaker}, {voice.license}; read its "
                "copyright file, and decide anew"
            )
    raise InputError(
        f"{voice.package}: the copyright file says nothing of '{voice.pattern}'; read "
        "it, and decide anew"
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


def prompts(root: Path) -> Iterator[np.ndarray]:
    """Samples (n,) int16 of the prompts below ``root``, without tones and silence."""
    for path in sorted(root.rglob("*.g722")):
        if NO_SPEECH.search(str(path.relative_to(root))):
            continue
        x = decoded(path)
        loud = float(np.sqrt(np.mean(np.square(x / 32768)))) if len(x) else 0.0
        if len(x) >= SHORTEST and loud >= QUIET:
            yield x


def decoded(path: Path) -> np.ndarray:
    """Samples (n,) int16 of a file of G.722, 64 kbit/s."""
    import av

    with av.open(str(path), format="g722") as file:
        frames = [frame.to_ndarray()[0] for frame in file.decode(audio=0)]
        if file.streams.audio[0].rate != RATE:
            raise InputError(f"{path} is not of {RATE} samples a second")
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

    check_license(_copyright(root), voice)
    split = "train" if voice.train else "heldout"
    (out / split).mkdir(parents=True, exist_ok=True)
    rows = []
    for k, x in enumerate(joined(prompts(root / "usr/share/asterisk/sounds"))):
        path = out / split / f"{voice.language}-{k:03d}.flac"
        soundfile.write(path, x, RATE)
        seconds = f"{len(x) / RATE:.2f}"
        given = voice.speaker, voice.language, voice.license, seconds, voice.package
        rows.append(dict(zip(COLUMNS, (split, path.name, *given), strict=True)))
    if not rows:
        raise InputError(f"{voice.package} holds no prompts; expected .g722 files")
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
