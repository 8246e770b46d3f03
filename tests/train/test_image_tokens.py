# SPDX-License-Identifier: Apache-2.0
"""Training of image tokens: codebooks built and renewed, a row of every rate."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from tiny_parts import section

pytest.importorskip("lightning", reason="the extra 'train' is not installed")

from polycodec.codecs.quantizers.cascade import books
from polycodec.train.config import parse_config
from polycodec.train.loop import Trainer


def trained(config, tmp_path, transform: str, quantizer: str, **stages) -> list[dict]:
    """Rows of all validations of a run."""
    config["codec"] = {
        "name": "token",
        "signal": "image",
        "channels": 12,
        "transform": section("transform", transform),
        "quantizer": section("quantizer", quantizer),
    }
    config["stages"] = stages
    config["run"]["precision"] = "32-true"
    Trainer(parse_config(config)).train()
    lines = map(json.loads, (tmp_path / "run/log.jsonl").read_text().splitlines())
    return [row for line in lines for row in line.get("points", [])]


@pytest.mark.parametrize("quantizer", ["residual", "latent"])
def test_books_are_built_and_every_rate_is_validated(
    run_config, tmp_path, capsys, quantizer
):
    stages = {"unquantized": 1, "frames": 64, "rebuild": 3}
    rows = trained(run_config, tmp_path, "conv", quantizer, **stages)
    assert capsys.readouterr().err.count("building codebooks from 64 latents") == 2
    assert [row["level"] for row in rows] == list(range(1, len(rows) + 1))
    assert len(rows) > 2  # order 0 of a rate is of its own levels
    bits = [0.0, *(row["order0_bpp"] for row in rows)]
    assert all(a < b for a, b in pairwise(bits))
    assert all(row["order0_bpp"] <= row["fixed_bpp"] for row in rows)


def test_dead_words_of_a_cascade_are_renewed_in_the_first_part_of_a_run(
    run_config, tmp_path, monkeypatch
):
    found = []

    def renewed(self, x, renew=books.Books.renew):
        assert len(x) >= 16  # crops
        found.append(renew(self, x))
        return found[-1]

    monkeypatch.setattr(books, "DEAD", 0.995)  # not chosen in the last step
    monkeypatch.setattr(books.Books, "renew", renewed)
    run_config["data"]["batch"] = 1
    (row,) = trained(run_config, tmp_path, "attention", "cascade", renew=2)
    assert len(found) == 3 and any(found)  # before step 2, of 4: none later
    assert 0 < row["order0_bpp"] <= row["fixed_bpp"]
