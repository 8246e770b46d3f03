# SPDX-License-Identifier: Apache-2.0
"""What a run says while it trains: a progress bar, JSON lines, TensorBoard.

`log.jsonl` holds one object per line, `train` or `validation`; a terminal gets a
live bar, anything else a plain line. TensorBoard is written when it is installed.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from polycodec import __version__
from polycodec.plainjson import to_json
from polycodec.train.config import TrainConfig


def provenance() -> dict[str, str]:
    """Return versions and the git state that made a run."""
    # An installed package may lie in a repository of its user's: that is not its own.
    ours = _git("ls-files", Path(__file__).name)
    return {
        "polycodec": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "revision": (ours and _git("describe", "--always", "--dirty")) or "none",
    }


def _git(*command: str) -> str:
    """Return what git says of this folder, nothing where there is no repository."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(["git", *command], cwd=here, capture_output=True)
    except OSError:
        return ""
    return done.stdout.decode().strip()


class RunLog:
    """Write the log of one run; silent on all ranks but the first."""

    def __init__(self, out: Path, *, enabled: bool = True) -> None:
        self.out, self.enabled = out, enabled
        self.board: Any = None
        self.bar: Any = None

    def start(self, config: TrainConfig, step: int, initialised: int = 0) -> None:
        """Save the resolved config and where it ran; open the bar.

        ``initialised``: tensors taken over from ``run.init``.
        """
        if not self.enabled:
            return
        row = {"kind": "start", "step": step, "initialised": initialised}
        self._write({**row, **provenance()})
        resolved = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        (self.out / "config.yaml").write_text(resolved)
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(self.out), purge_step=step)
        except ImportError:
            pass
        if sys.stderr.isatty():
            from rich.progress import Progress

            self.bar = Progress(transient=False)
            self.bar.start()
            self.task = self.bar.add_task("training", total=config.run.steps)

    def line(
        self, step: int, steps: int, seconds: float, values: dict[str, float], said: str
    ) -> None:
        """Report one training step; ``seconds`` is the mean of a step."""
        if not self.enabled:
            return
        self._write({"kind": "train", "step": step, "seconds": seconds, **values})
        text = f"step {step}/{steps}  {seconds:.3f} s  {said}"
        if self.bar:
            self.bar.update(self.task, completed=step, description=text)
        else:
            print(text, file=sys.stderr, flush=True)
        if self.board:
            for key, value in values.items():
                self.board.add_scalar(f"train/{key}", value, step)

    def validation(self, step: int, rows: list[dict[str, Any]], said: str) -> None:
        """Report the rate-distortion points of the validation split.

        The first entry of a row says which point it is, a quality or levels.
        """
        if not self.enabled:
            return
        self._write({"kind": "validation", "step": step, "points": rows})
        self.say(f"validation at {step}, {said}")
        for row in rows if self.board else ():
            (key, point), *values = row.items()
            for name, value in values:
                if isinstance(value, (int, float)):
                    tag = f"validation/{key[0]}{point:g}/{name}"
                    self.board.add_scalar(tag.replace("estimated_", ""), value, step)

    def event(self, kind: str, step: int, **values: object) -> None:
        """Report what happens once, such as codebooks built."""
        if self.enabled:
            self._write({"kind": kind, "step": step, **values})
            text = "  ".join(f"{k} {v}" for k, v in values.items())
            self.say(f"{kind} at {step}: {text}")

    def say(self, text: str) -> None:
        """Say one line to people, above the bar where there is one."""
        if self.enabled and self.bar:
            self.bar.console.print(text, markup=False, highlight=False)
        elif self.enabled:
            print(text, file=sys.stderr, flush=True)

    def decoding(self, done: int, total: int) -> None:
        """Report how far the cache of decoded signals is filled."""
        if self.enabled and (done % 100 == 0 or done == total):
            self.say(f"decoding: {done}/{total}")

    def close(self) -> None:
        """Close the bar and the board."""
        if self.bar:
            self.bar.stop()
        if self.board:
            self.board.close()

    def _write(self, row: dict[str, Any]) -> None:
        # Not before there is something to say: a run that finds no data leaves nothing.
        self.out.mkdir(parents=True, exist_ok=True)
        with open(self.out / "log.jsonl", "a") as file:
            file.write(to_json(row) + "\n")
