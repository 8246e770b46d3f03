# SPDX-License-Identifier: Apache-2.0
"""What a run says while it trains: a progress bar, JSON lines, TensorBoard.

`log.jsonl` holds one object per line, `train` or `validation`; a terminal gets a
live bar, anything else a plain line. TensorBoard is written when it is installed.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import torch
import yaml

from polycodec import __version__


def provenance() -> dict[str, str]:
    """Versions and the git state that made a run."""
    try:
        command = ["git", "describe", "--always", "--dirty"]
        here = Path(__file__).parent
        done = subprocess.run(command, cwd=here, capture_output=True, text=True)
        revision = done.stdout.strip() or "none"
    except OSError:
        revision = "none"
    return {
        "polycodec": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "revision": revision,
    }


class RunLog:
    """Writes the log of one run; silent on all ranks but the first."""

    def __init__(self, out: Path, *, enabled: bool = True) -> None:
        self.out, self.enabled = out, enabled
        self.board = self.bar = None
        if enabled:
            out.mkdir(parents=True, exist_ok=True)

    def start(self, config, step: int, initialised: int = 0) -> None:
        """Save the resolved config and where it ran; open the bar.

        ``initialised``: tensors taken over from ``run.init``.
        """
        if not self.enabled:
            return
        resolved = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        (self.out / "config.yaml").write_text(resolved)
        row = {"kind": "start", "step": step, "initialised": initialised}
        self._write({**row, **provenance()})
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(self.out), purge_step=step)
        except ImportError:
            self.board = None
        if sys.stderr.isatty():
            from rich.progress import Progress

            self.bar = Progress(transient=False)
            self.bar.start()
            self.task = self.bar.add_task("training", total=config.run.steps)

    def line(self, step: int, steps: int, seconds: float, values: dict) -> None:
        """Report one training step; ``seconds`` is the mean of a step."""
        if not self.enabled:
            return
        self._write({"kind": "train", "step": step, "seconds": seconds, **values})
        text = (
            f"step {step}/{steps}  {seconds:.3f} s  loss {values['loss']:.3f}  "
            f"bpp {values['bpp']:.3f}  psnr {values['psnr']:.2f}"
        )
        if self.bar:
            self.bar.update(self.task, completed=step, description=text)
        else:
            print(text, file=sys.stderr, flush=True)
        if self.board:
            for key, value in values.items():
                self.board.add_scalar(f"train/{key}", value, step)

    def validation(self, step: int, rows: list[dict]) -> None:
        """Report the rate-distortion points of the validation split."""
        if not self.enabled:
            return
        self._write({"kind": "validation", "step": step, "points": rows})
        points = "  ".join(f"{r['estimated_bpp']:.3f}/{r['psnr']:.2f}" for r in rows)
        print(f"validation at {step}, bpp/dB: {points}", file=sys.stderr, flush=True)
        if self.board:
            for row in rows:
                name = f"validation/q{row['quality']:g}"
                self.board.add_scalar(f"{name}/bpp", row["estimated_bpp"], step)
                self.board.add_scalar(f"{name}/psnr", row["psnr"], step)

    def decoding(self, done: int, total: int) -> None:
        """Progress of filling the image cache."""
        if self.enabled and (done % 100 == 0 or done == total):
            print(f"decoding images: {done}/{total}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Close the bar and the board."""
        if self.bar:
            self.bar.stop()
        if self.board:
            self.board.close()

    def _write(self, row: dict) -> None:
        with open(self.out / "log.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
