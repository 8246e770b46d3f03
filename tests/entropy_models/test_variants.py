# SPDX-License-Identifier: Apache-2.0
"""Presets of `docs/checks/entropy.py`: every variant is a model that can be built."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from polycodec.registry import build

HERE = Path(__file__).parents[2]
FILES = sorted((HERE / "docs" / "checks" / "variants").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_variant_of_a_preset_can_be_built(path):
    kind = "transform" if path.stem == "transforms" else "entropy"
    sections = yaml.safe_load(path.read_text())
    named = {k: v for k, v in sections.items() if "name" in v and k[0] != "."}
    assert named
    for name, section in named.items():
        options = {k: v for k, v in section.items() if k != "name"}
        with torch.device("meta"):
            model = build(f"{kind}/{section['name']}", channels=320, **options)
        parameters = sum(p.numel() for p in model.parameters())
        assert 1_000_000 < parameters < 8_000_000, (name, parameters)
