# SPDX-License-Identifier: Apache-2.0
"""Training speech: a folder, decoded once, cropped at random, reproducibly.

A crop begins at a sample drawn evenly from all training samples, so long recordings
count by their length; the batch of step s is a function of (seed, s) alone. Whole
speakers are held out where a table says who speaks:

    index.tsv, beside the folder or in it     columns file and speaker, maybe more
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polycodec.errors import InputError
from polycodec.train.cache import Progress, SignalCache

UNKNOWN = {"", "unknown"}  # speakers of whom nothing is known; always trained on


class SpeechCache(SignalCache):
    """Recordings of a folder, (T,) int16 mono each, all of one sample rate."""

    called = "recordings"
    suffixes = (".flac", ".wav", ".ogg")
    dtype = np.int16

    def __init__(
        self,
        folder: str | Path,
        cache: str | Path,
        rate: int,
        progress: Progress | None = None,
    ) -> None:
        self.rate = rate
        super().__init__(folder, cache, progress)
        self.lengths = [length for (length,) in self.shapes]
        self.speakers = speakers_of(self.folder, self.files)

    def settings(self) -> str:
        """See `SignalCache.settings`."""
        return f"{self.rate}"

    def decode(self, path: Path) -> np.ndarray[Any, Any]:
        """See `SignalCache.decode`; InputError also for another sample rate."""
        import soundfile

        try:
            samples, found = soundfile.read(path, dtype="float32", always_2d=True)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"cannot decode the training recording {path}; {error}; remove it"
            ) from error
        if found != self.rate:
            raise InputError(
                f"{path} has {found} samples a second; this codec expects "
                f"{self.rate}; convert the folder first, for example: ffmpeg -i IN "
                f"-ar {self.rate} -ac 1 OUT.flac"
            )
        mono = samples.mean(axis=1)
        return np.clip(np.round(mono * 32768), -32768, 32767).astype(np.int16)


def speakers_of(folder: Path, files: Sequence[Path]) -> list[str] | None:
    """Return who speaks in each file, by an index.tsv in the folder or beside it.

    The table names a file as seen from where it lies, or by its name alone; InputError
    where it gives one name to several speakers, and files are called so.
    """
    for table in (folder / "index.tsv", folder.parent / "index.tsv"):
        if not table.is_file():
            continue
        with open(table, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        if not rows or not {"file", "speaker"} <= rows[0].keys():
            continue
        pairs = [(Path(row["file"] or ""), row["speaker"] or "") for row in rows]
        paths = {table.parent / path: who for path, who in pairs}
        names: dict[str, set[str]] = {}
        for path, who in pairs:
            names.setdefault(path.name, set()).add(who)
        found: list[str] = []
        for path in files:
            known = {paths[path]} if path in paths else names.get(path.name, {""})
            if len(known) > 1:
                raise InputError(
                    f"{table} has several speakers of {path.name}, and none of "
                    f"{path}; name files as seen from the table's folder"
                )
            found += known
        return found
    return None


class SpeechSource:
    """Random crops of ``length`` samples; some speakers are kept for validation."""

    def __init__(
        self,
        recordings: SpeechCache,
        *,
        length: int,
        batch: int,
        seed: int,
        holdout: int,
        gain: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self.recordings, self.length, self.batch = recordings, length, batch
        self.seed, self.gain = seed, gain
        self.held_out = _held_out(recordings, holdout)
        every = range(len(recordings))
        left = set(every) - set(self.held_out)
        self.train = [i for i in every if i in left and recordings.lengths[i] > 0]
        if not self.train:
            raise InputError(
                f"all {len(recordings)} recordings are held out; raise data.holdout or "
                "add recordings"
            )
        self.ends = np.cumsum([recordings.lengths[i] for i in self.train])

    def batch_at(self, step: int, rank: int = 0) -> tuple[Tensor, np.random.Generator]:
        """Return the (B, 1, length) float batch of a step, and its generator."""
        rng = np.random.default_rng([self.seed, rank, step])
        crops = np.stack([self._crop(rng) for _ in range(self.batch)])
        return torch.from_numpy(crops)[:, None], rng

    def _crop(self, rng: np.random.Generator) -> np.ndarray[Any, Any]:
        at = int(rng.integers(self.ends[-1]))
        which = int(np.searchsorted(self.ends, at, side="right"))
        whole = self.recordings[self.train[which]]
        start = int(rng.integers(max(1, len(whole) - self.length + 1)))
        crop = whole[start : start + self.length].astype(np.float32) / 32768
        room = self.length - len(crop)
        if room:  # shorter than a crop: silence around it
            before = int(rng.integers(room + 1))
            crop = np.pad(crop, (before, room - before))
        gain = 10 ** (rng.uniform(*self.gain) / 20)
        gain = min(gain, 1 / max(float(np.abs(crop).max()), 1e-9))  # never clips
        sign = -1 if rng.random() < 0.5 else 1
        return crop * np.float32(sign * gain)

    def kept(self, count: int) -> list[int]:
        """Held-out recordings, ``count`` at most, of as many speakers as there are."""
        speakers = self.recordings.speakers or []
        several = len(set(speakers)) > 1
        # The first of every speaker, then the second ones, and so on.
        rows: defaultdict[int, list[int]] = defaultdict(list)
        seen: Counter[str | int] = Counter()
        for i in self.held_out:
            who = speakers[i] if several else i
            rows[seen[who]].append(i)
            seen[who] += 1
        found: list[int] = []
        for row in rows.values():
            some = min(len(row), count - len(found))
            places = np.linspace(0, len(row) - 1, some).round().astype(int)
            found += [row[k] for k in places]
        return sorted(found)

    def validation(self, length: int, count: int) -> tuple[Tensor, list[int]]:
        """Cut middles of recordings that are `kept`.

        Returns (n, 1, length) float, zeros behind shorter ones, and their lengths.
        """
        chosen = self.kept(count)
        x = torch.zeros(len(chosen), 1, length)
        lengths = []
        for row, i in zip(x, chosen, strict=True):
            whole = self.recordings[i]
            start = max(0, (len(whole) - length) // 2)
            kept = whole[start : start + length].astype(np.float32) / 32768
            row[0, : len(kept)] = torch.from_numpy(kept)
            lengths.append(len(kept))
        return x, lengths


def _held_out(recordings: SpeechCache, holdout: int) -> list[int]:
    """Hold out every n-th known speaker's recordings, or every n-th recording."""
    every = range(len(recordings))
    if recordings.speakers is not None:
        known = sorted(set(recordings.speakers) - UNKNOWN)
        if len(known) > 1:
            chosen = set(known[::holdout])
            return [i for i in every if recordings.speakers[i] in chosen]
    return [i for i in every if i % holdout == 0]
