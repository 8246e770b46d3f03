# SPDX-License-Identifier: Apache-2.0
"""Priors of the Bayesian family from a folder: trained, resumed, exported, packed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning", reason="the extra 'train' is not installed")

from polycodec import decode, encode, pack, unpack
from polycodec.codecs.stored import load_codec
from polycodec.errors import InputError, ModelError
from polycodec.registry import build
from polycodec.train import export as exporting
from polycodec.train.checkpoint import read_checkpoint
from polycodec.train.config import load_config
from polycodec.train.loop import Trainer


@pytest.fixture(scope="module")
def icons(tmp_path_factory):
    """Twelve small pictures, alike but each its own, and one that is larger."""
    folder = tmp_path_factory.mktemp("icons")
    y, x = np.mgrid[-1:1:8j, -1:1:8j]
    rng = np.random.default_rng(0)
    for k in range(12):
        a, b, c = rng.uniform(0, 1, (3, 3))
        wave = (
            a + b * np.cos(2 * x * a[0] + c[0])[..., None] * 0.4 + c * y[..., None] / 9
        )
        Image.fromarray((80 * wave + 60).clip(0, 255).astype(np.uint8)).save(
            folder / f"{k:02}.png"
        )
    large = Image.open(folder / "03.png").resize((21, 13), Image.Resampling.BILINEAR)
    large.save(folder / "large.png")
    return folder


def config_of(icons, run, *more):
    network = "{hidden: 8, depth: 2, fourier: 8, top: 4, encoding: 4, latents: 4, "
    return load_config(
        "image/recombiner-small",
        [
            f"data.train={icons}",
            f"data.cache={run.parent / 'cache'}",
            "data.batch=6",
            "data.holdout=6",
            f"run.out={run}",
            "run.steps=60",
            "run.accelerator=cpu",
            "run.save_every=20",
            "eval.every=60",
            "priors.every=5",
            "priors.beta=[1e-4]",
            "priors.settle=0",
            "priors.lr=0.1",
            "optim.lr=0.003",
            "optim.warmup=1",
            "optim.decay=0",
            "codec.piece=[8, 8]",
            "codec.bpp=[1.0, 3.0]",
            "codec.bits=8",
            "codec.fit={steps: 30, late: 1, least: 1}",
            f"codec.network={network}features: [4, 4], up: [2, 2, 2]}}",
            *more,
        ],
    )


@pytest.fixture(scope="module")
def run(icons, tmp_path_factory):
    """A run, begun, and gone on with from its checkpoint."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    Trainer(config_of(icons, folder, "run.steps=20", "eval.every=20")).train()
    Trainer(config_of(icons, folder), resume=True).train()
    exporting.export(folder, progress=lambda said: None)
    return folder


def test_a_resumed_run_is_an_uninterrupted_one(icons, run):
    Trainer(config_of(icons, run.parent / "once")).train()
    one, two = (read_checkpoint(run.parent / name) for name in ("whole", "once"))
    assert {k for k, v in one["codec"].items() if not v.equal(two["codec"][k])} == set()
    rows = zip(one["task"]["rows"], two["task"]["rows"], strict=True)
    assert all(a.equal(b) for a, b in rows)


def test_files_and_a_set_of_trained_priors(icons, run, tmp_path):
    codec = load_codec(run / "codec.safetensors", name="image/icons")
    result = encode(icons / "large.png", tmp_path / "a.plc", codec=codec, quality=100)
    decode(tmp_path / "a.plc", tmp_path / "a.png", codec=codec)
    assert Image.open(tmp_path / "a.png").size == (21, 13)
    blocks = len(codec.entropy.tables["1-piece"].blocks)
    assert result.bytes > 6 * blocks  # six pieces, of blocks of a byte
    packed = pack(icons, tmp_path / "set.plc", codec=codec, quality=100, effort=20)
    assert packed.members == 13
    unpack(tmp_path / "set.plc", tmp_path / "out", codec=codec)
    for name in ("00.png", "large.png"):
        with Image.open(tmp_path / "out" / name) as found:
            was = np.asarray(Image.open(icons / name).convert("RGB"), float)
            error = (np.asarray(found, float) - was) ** 2
        assert error.mean() < was.var() + 900


def test_too_few_steps_and_too_small_pictures_are_named(icons, run, tmp_path):
    Trainer(config_of(icons, tmp_path / "short", "run.steps=2")).train()
    with pytest.raises(ModelError, match="never fitted to posteriors"):
        exporting.export(tmp_path / "short", progress=lambda said: None)
    with pytest.raises(InputError, match="no image measures 64x64"):
        Trainer(config_of(icons, tmp_path / "large", "priors.pieces=8"))
    torch.manual_seed(0)
    with pytest.raises(ModelError, match="posteriors of 10 signals"):
        more = ["priors.signals=4", "run.steps=80"]
        Trainer(config_of(icons, run, *more), resume=True)


def test_the_configs_have_the_published_sizes():
    """3,267 weights, 512 values a picture, φ of 251,024: the paper's appendix."""
    options = load_config("image/recombiner").codec.options()
    codec = build("codec/bayesian", **{**options, "bpp": [0.3]})
    own = codec.network(0)
    assert (own.weights, own.values) == (3267, 512)
    assert sum(p.numel() for p in own.phi.parameters()) == 251_024
    assert codec.entropy.bits == 16
    patches = load_config("image/recombiner-patches").codec.options()
    tiers = build("codec/bayesian", **patches).tiers((8, 8))
    assert [tier.rows for tier in tiers] == [64, 4, 1]
