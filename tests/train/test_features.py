# SPDX-License-Identifier: Apache-2.0
"""Distillation of codecs of features: a teacher, two stages, an export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning", reason="the extra 'train' is not installed")

from polycodec.codecs.stored import load_codec
from polycodec.errors import InputError, UsageError
from polycodec.train.checkpoint import read_checkpoint
from polycodec.train.config import parse_config
from polycodec.train.export import averaged_codec, export, recipe_of
from polycodec.train.features.data import ClassSource
from polycodec.train.features.task import prices
from polycodec.train.image.data import ImageCache
from polycodec.train.loop import Trainer

HEAD = {"name": "residual", "widths": (8, 12), "labels": ("dark", "light")}
STEM = {"name": "stem", "width": 8, "widths": (8, 8)}
EDGE = {"name": "edge", "widths": (8, 8), "wide": (8, 8), "features": 8}


def section(transform: dict, channels: int, levels: int) -> dict:
    return {
        "name": "feature",
        "signal": {"size": 16},
        "channels": channels,
        "levels": levels,
        "transform": transform,
        "head": {**HEAD, "classes": 2},
    }


def run(tmp_path, name: str, task: str, codec: dict, steps: int = 2, **more) -> str:
    out = str(tmp_path / name)
    config = {
        "task": f"features/{task}",
        "codec": codec,
        "data": {
            **{"train": str(tmp_path / "data"), "cache": str(tmp_path / "cache")},
            **{"batch": 4, "holdout": 4},
        },
        "optim": {"warmup": 1, "ema": 0.0, **more.pop("optim", {})},
        "run": {
            **{"out": out, "steps": steps, "precision": "32-true"},
            **more.pop("run", {}),
        },
        "eval": {"images": 4},
        "classes": {"hole": 0.2, **more.pop("classes", {})},
        **more,
    }
    Trainer(parse_config(config)).train()
    return out


def points(out: str) -> list[dict]:
    with open(f"{out}/log.jsonl") as file:
        return next(row["points"] for row in map(json.loads, file) if "points" in row)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of a teacher and of both stages."""
    path = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    for label, mean in (("dark", 60), ("light", 190)):
        (path / "data" / label).mkdir(parents=True)
        for k in range(8):
            pixels = rng.normal(mean, 30, (20, 18 + k, 3)).clip(0, 255)
            file = path / "data" / label / f"{k}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    teacher = run(path, "teacher", "classes", section(STEM, 8, 1), steps=40)
    codec, taught = section(EDGE, 4, 3), {"teacher": teacher}
    only = {"only": ["transform.", "rates.", "entropy."], "lr": 0.01}
    first = run(
        path,
        "first",
        "feature",
        codec,
        steps=4,
        classes=taught,
        optim=only,
        run={"init": teacher},
        stages={"unquantized": 1},
    )
    only = {"only": ["transform.g_s.", "head."], "lr": 0.01}
    second = run(
        path,
        "second",
        "answers",
        codec,
        classes=taught,
        optim=only,
        run={"init": first},
    )
    return path, teacher, first, second


def kept(out: str) -> dict[str, torch.Tensor]:
    return read_checkpoint(Path(out))["codec"]


def changed(before: str, after: str) -> set[str]:
    """The first parts of the names of what differs."""
    old, new = kept(before), kept(after)
    same = {k for k in old.keys() & new.keys() if torch.equal(old[k], new[k])}
    return {".".join(k.split(".")[:2]) for k in new.keys() - same}


def test_the_teacher_learns_and_is_validated_without_a_rate(runs):
    rows = points(runs[1])
    assert [row["level"] for row in rows] == [0]
    assert rows[0]["estimated_bytes"] == 0 and rows[0]["accuracy"] >= 0.75


def test_the_first_stage_trains_the_bottleneck_and_leaves_the_head(runs):
    rows = points(runs[2])
    assert [row["level"] for row in rows] == [1, 2, 3]
    sizes = [row["estimated_bytes"] for row in rows]
    assert sizes == sorted(sizes) and sizes[0] > 0
    names = changed(runs[1], runs[2])
    assert not any(name.startswith("head.") for name in names)
    assert {"transform.g_a", "transform.g_s", "rates.log_gain"} <= names


def test_the_second_stage_leaves_files_byte_for_byte(runs):
    names = changed(runs[2], runs[3])
    assert names == {"transform.g_s", "head.layers", "head.fc"}
    x, data = torch.rand(2, 3, 16, 16), []
    for out in runs[2:]:
        state = read_checkpoint(Path(out))
        codec = averaged_codec(state, parse_config(json.loads(state["config"])))
        codec.freeze(lambda codec: None)
        data.append(codec.compress(x, 50))
    assert data[0] == data[1]


def test_a_teacher_is_a_codec_whose_features_are_its_latents(runs):
    state = read_checkpoint(Path(runs[1]))
    teacher = averaged_codec(state, parse_config(json.loads(state["config"])))
    x = torch.rand(2, 3, 16, 16)
    out = teacher(x, torch.ones(2), quantize=False)
    direct = teacher.head(teacher.transform.g_a(teacher.signal.prepared(x)))
    assert torch.equal(out.logits, direct)


def test_the_export_classifies_by_real_bytes(runs, tmp_path):
    said: list[str] = []
    card = export(runs[3], tmp_path, name="features/tiny", progress=said.append)
    assert card["modality"] == "features" and card["config"]["classes"]["teacher"] == (
        "teacher"
    )
    assert [row["level"] for row in card["accuracy"]] == [1, 2, 3]
    assert all(0 <= row["accuracy"] <= 1 for row in card["accuracy"])
    assert any("exact with" in line for line in said)
    codec = load_codec(tmp_path / "codec.safetensors", name="features/tiny")
    found = codec.classify(codec.compress(torch.rand(3, 3, 40, 50), 100))
    assert found.shape == (3, 2) and torch.allclose(found.sum(1), torch.ones(3))


def test_one_picture_is_too_few(tmp_path):
    (tmp_path / "data" / "light").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(tmp_path / "data" / "light" / "0.png")
    (tmp_path / "data" / "dark").mkdir()
    with pytest.raises(InputError, match="one picture alone"):
        run(tmp_path, "run", "classes", section(STEM, 8, 1))


def test_what_packing_loses_is_the_likelihood_of_the_class(runs):
    state = read_checkpoint(Path(runs[3]))
    config = parse_config(json.loads(state["config"]))
    codec = averaged_codec(state, config)
    panel = recipe_of(config, codec, print).panel(codec)
    images = ImageCache(config.data.train, config.data.cache)
    x, classes = ClassSource(images, config, codec.signal).validation(32)
    logits = torch.tensor([0.0, 2.0])
    found = [panel.yard.quality(one, logits) for one in x]
    assert found == pytest.approx(logits.log_softmax(0)[classes].tolist())


def test_the_price_of_a_bit_has_two_ends_or_a_value_for_each_level():
    torch.testing.assert_close(prices([8.0, 0.5], 3), torch.tensor([8.0, 2.0, 0.5]))
    torch.testing.assert_close(prices([9.0, 8, 0.1], 3), torch.tensor([9.0, 8.0, 0.1]))
    for beta in ([1.0, 0.5, 0.2, 0.1], [1.0], [1.0, 0.0]):
        with pytest.raises(UsageError, match=r"classes.beta is .* each of 3 levels"):
            prices(beta, 3)


def test_what_a_student_lacks_is_said(runs):
    path, teacher = runs[:2]
    with pytest.raises(UsageError, match="teacher is not given"):
        run(path, "alone", "feature", section(EDGE, 4, 3))
    codec = section(EDGE, 4, 3)
    codec["head"]["labels"] = ("cat", "dog")
    with pytest.raises(InputError, match="2 folders, dark, light"):
        run(path, "named", "feature", codec, classes={"teacher": teacher})
