# SPDX-License-Identifier: Apache-2.0
"""Figures of a GPU: the newest file counts, what is missing says so, README agrees."""

from __future__ import annotations

import json
import pathlib

from polycodec.eval.bench import gpu_figures
from polycodec.eval.bench.gpu_figures import NOT_YET

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_readme_shows_the_newest():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text[text.index(gpu_figures.BEGIN) :]
    shown = shown[: shown.index(gpu_figures.END) + len(gpu_figures.END)]
    assert shown == gpu_figures.markdown(gpu_figures.newest())


def test_nothing_measured_is_said():
    table = dict(gpu_figures.rows({}))
    assert len(table) > 5 and set(table.values()) == {NOT_YET}


def test_the_newest_file_counts_and_failed_parts_have_no_figure(tmp_path):
    run = {"load": "3.0", "images": 546, "chunks": 24, "decode kernel, Gsym/s": 123.4}
    for date, gain in (("2026-01-02", 1), ("2026-03-01", 2), ("2026-02-09", 3)):
        row = {**run, "decode kernel, Gsym/s": 100.0 * gain}
        small = {**run, "images": 1, "decode kernel, Gsym/s": 999.0}
        result = {
            "about": {"device": "A GPU", "driver": "1", "torch": "2", "date": date},
            "identity": {
                "golden, different": [],
                "random": 7,
                "random, different": 0,
            },
            "files": NOT_YET,
            "sanitizer": "failed: no device",
            "speed": {
                "throughput": [small, row],
                "priors": [{**row, "load": "mixture of 3", "images": 64}],
                "latency of one image": NOT_YET,
            },
        }
        (tmp_path / f"gpu-{date}-a.json").write_text(json.dumps(result))
    dry = {"about": {"device": f"none; {NOT_YET}", "date": "2027-01-01"}}
    (tmp_path / "gpu-2027-01-01-none.json").write_text(json.dumps(dry))
    table = dict(gpu_figures.rows(gpu_figures.newest(tmp_path)))
    assert table["device"] == "A GPU, driver 1, torch 2, 2026-03-01"
    assert table["decode, Gaussian index, 3 bits"] == "200 Gsym/s, 546 images"
    assert table["decode, mixtures of 3"] == "200 Gsym/s, 64 images"
    assert table["streams, the CPU's bytes both ways"].endswith(
        "7 random batches, 0 differ"
    )
    missing = [what for what, figure in table.items() if figure == NOT_YET]
    assert len(missing) == 9
