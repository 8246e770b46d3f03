# SPDX-License-Identifier: Apache-2.0
"""Small configs of image systems: trained a little, exported, used on files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning", reason="the extra 'train' is not installed")

from polycodec import decode, encode
from polycodec.codecs.stored import load_codec
from polycodec.entropy_models.tokens import conditional
from polycodec.train import export as exporting
from polycodec.train.config import load_config, shipped
from polycodec.train.image import export as image_export
from polycodec.train.image import token as image_token
from polycodec.train.loop import Trainer

APART = ("image/recombiner-small",)  # test_bayesian.py: two steps make no prior
SMALL = [
    n
    for n in shipped()
    if n.startswith("image/") and n.endswith("-small") and n not in APART
]


def test_there_are_small_configs():
    wanted = {"mlicv2", "s2lic", "mixture", "mcquic", "granular"}
    wanted = {f"image/{name}-small" for name in wanted}
    assert wanted <= set(SMALL)


TOKENS = ("image/mcquic-small", "image/granular-small")


@pytest.fixture
def pictures(training_images, tmp_path, monkeypatch):
    """The training pictures, small, and grids fixed on two crops of them: faster."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in training_images.iterdir():
        Image.open(path).crop((0, 0, 96, 80)).save(folder / path.name)
    monkeypatch.setattr(image_export, "CALIBRATION", ((64, 2),))
    monkeypatch.setattr(image_export, "FITTING", (64, 1))
    return folder


@pytest.mark.parametrize("name", SMALL)
def test_two_steps_an_export_and_a_file_of_odd_size(
    name, pictures, tmp_path, monkeypatch
):
    monkeypatch.setattr(image_token, "FITTED", (64, 1))
    monkeypatch.setattr(conditional, "STEPS", 4)
    monkeypatch.setattr(conditional, "TRIED", 256)
    config = load_config(
        name,
        [
            f"data.train={pictures}",
            f"data.cache={tmp_path / 'cache'}",
            "data.crop=64",
            "data.batch=1",
            "data.holdout=3",
            f"run.out={tmp_path / 'run'}",
            "run.steps=2",
            "run.accelerator=cpu",
            "run.precision=32-true",
            "eval.every=2",
            "eval.images=1",
            "eval.size=64",
            "eval.qualities=[50]",
            *(["stages.frames=64"] if name in TOKENS else []),
        ],
    )
    Trainer(config).train()
    exporting.export(tmp_path / "run", progress=lambda said: None)
    codec = load_codec(tmp_path / "run" / "codec.safetensors", name=name)
    assert sum(p.numel() for p in codec.parameters()) < 8_000_000
    pixels = np.asarray(Image.open(pictures / "0.png"))[:53, :37]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    encode(tmp_path / "a.png", tmp_path / "a.plc", codec=codec, quality=50)
    decode(tmp_path / "a.plc", tmp_path / "b.png", codec=codec)
    found = np.asarray(Image.open(tmp_path / "b.png"))
    assert found.shape == pixels.shape
    # The file says what the codec says, without a file.
    x = torch.from_numpy(pixels.copy()).movedim(-1, 0)[None] / 255
    alone = codec.decompress(codec.compress(x, 50))[0].movedim(0, -1) * 255
    assert np.abs(found - alone.numpy()).max() <= 1
