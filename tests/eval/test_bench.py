# SPDX-License-Identifier: Apache-2.0
"""The coder's benchmark: all coders give the symbols back, bytes are near the ideal."""

from __future__ import annotations

import importlib.util
import json
import re

import numpy as np
import pytest

from polycodec.cuda.host.library import library
from polycodec.eval.bench import loads
from polycodec.eval.bench.table import bench_table


def test_loads_have_the_rates_in_their_names():
    for bits in loads.GAUSSIANS:
        load = loads.gaussian_load(bits, 40_000)
        assert 8 * load.ideal_bytes() / 40_000 == pytest.approx(bits, rel=0.03)
    shared = loads.shared_load(40_000)
    entropy = -(shared.pmf * np.log2(shared.pmf)).sum()
    assert 8 * shared.ideal_bytes() / 40_000 == pytest.approx(entropy, rel=0.01)


def test_bench_from_the_command_line(cli):
    code, out, err = cli("bench", "coder", "--symbols", 20000, "--repeats", 1, "--json")
    assert code == 0, err
    result = json.loads(out)
    coders = {row["coder"] for row in result["rows"]}
    assert "numpy" in coders
    if library() is not None:
        assert "plain C++" in coders
    loads = {row["load"] for row in result["rows"] if row["prior"]}
    assert loads == {"gauss, means", "mixture of 3", "logits 256"}
    if importlib.util.find_spec("constriction"):
        assert {"constriction range", "constriction ANS"} <= coders
    for row in result["rows"]:
        assert row["decode"] > 0 and row["encode"] > 0
        # States are most of it at this size, 2000 bytes and more: 96 bytes a chunk
        # above what they hold, and a coder with threads writes two chunks for each.
        many = re.search(r"(\d+) (chunks|threads)", row["coder"])
        chunks = int(many[1]) * (2 if many[2] == "threads" else 1) if many else 1
        ideal = row["bytes"] / (1 + row["overhead"])
        assert row["overhead"] > -0.001, row
        assert row["bytes"] < 1.02 * ideal + 100 * chunks, row
    tiny = {row["symbols"]: row for row in result["tiny"]}
    assert tiny[0]["ours"] == 0
    assert tiny[64]["ours"] - tiny[64]["ideal"] < 2.5
    text = bench_table(result)
    assert ("x constriction" in text) == ("constriction range" in coders)


def test_unknown_benchmarks_are_refused(cli):
    code, _, err = cli("bench", "disk")
    assert code == 2 and "disk" in err
    assert cli("bench", "coder", "--symbols", 0)[0] == 2
