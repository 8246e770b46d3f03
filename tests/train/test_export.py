# SPDX-License-Identifier: Apache-2.0
"""Export: what it writes, and that a checkpoint which fails a check is no codec."""

from __future__ import annotations

import json
import pathlib
import shutil

import pytest
import torch

pytest.importorskip("lightning", reason="the extra 'train' is not installed")

from polycodec.errors import InputError, ModelError
from polycodec.train.config import parse_config
from polycodec.train.export import export
from polycodec.train.loop import Trainer


@pytest.fixture
def trained(run_config, tmp_path) -> pathlib.Path:
    Trainer(parse_config(run_config)).train()
    return tmp_path / "run"


def test_the_signals_of_a_run_may_have_moved(trained, run_config, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        export(trained, data=str(tmp_path / "nowhere"))
    moved = shutil.copytree(run_config["data"]["train"], tmp_path / "moved")
    out = tmp_path / "a" / "new"
    card = export(trained, out, data=str(moved))
    assert (out / "codec.safetensors").is_file()
    assert card["config"]["data"]["train"] == "moved"


@pytest.mark.usefixtures("every_machine")
def test_export_makes_a_codec_with_a_card(trained, tmp_path):
    from polycodec.codecs.stored import digest_of
    from polycodec.codecs.zoo import load

    said = []
    card = export(trained, progress=said.append)
    assert json.loads((trained / "codec.json").read_text()) == card
    assert card["digest"] == digest_of(trained / "codec.safetensors").hex()
    assert card["name"] == "image/run" and card["steps"] == 4 and card["modality"]
    assert [p["quality"] for p in card["validation"]] == [0, 50, 100]
    for point in card["validation"]:
        assert point["estimated_bpp"] > 0 and point["bpp"] > 0 and point["psnr"] > 3
    rows = json.loads((trained / "certificate.json").read_text())
    assert rows == card["certificate"] and len(rows) == 4 + 3 * 3
    assert all(r["bound"] <= r["limit"] and 0 < r["used"] <= 1 for r in rows)
    assert str(tmp_path) not in json.dumps(card)
    assert any("another number of threads, oneDNN off" in text for text in said)
    codec = load(checkpoint=trained)
    x = torch.rand(1, 3, 20, 30)
    assert codec.decompress(codec.compress(x, 30)).shape == x.shape


def test_an_export_can_be_packed(trained):
    from polycodec.codecs.stored import digest_of
    from polycodec.train.shrink.run import packing
    from polycodec.train.shrink.shrinker import Goal

    card = export(trained, after=packing(Goal(bits=36)))
    packed = trained / "codec.safetensors"
    assert card["bytes"] == packed.stat().st_size
    assert card["digest"] == digest_of(packed).hex() != card["shrunk"]["from"]
    assert card["shrunk"]["bits"] <= 36 and "loss" in card["shrunk"]
    assert not list(trained.glob("*.packed"))


def test_everybody_may_read_what_an_export_writes(trained):
    export(trained)
    modes = {p.name: p.stat().st_mode for p in trained.glob("c*.*")}
    assert modes["codec.safetensors"] == modes["codec.json"]


def test_uncommitted_changes_of_the_package_are_said(trained, monkeypatch):
    made = {"revision": "0123abc-dirty"}
    monkeypatch.setattr("polycodec.train.export.provenance", lambda: made)
    said = []
    card = export(trained, progress=said.append)
    assert card["versions"] == made
    assert sum("0123abc-dirty" in text for text in said) == 1


def test_weights_that_ship_were_exported_by_a_committed_tree():
    from polycodec.codecs.zoo import models

    before_this_was_looked_at = {"275fe5d-dirty"}
    exported = [card for card in models() if card["parameters"]]  # others are fitted
    revisions = {card["versions"]["revision"] for card in exported}
    dirty = {revision for revision in revisions if revision.endswith("-dirty")}
    assert revisions and dirty <= before_this_was_looked_at


def test_the_same_checkpoint_gives_the_same_codec(trained, tmp_path):
    (tmp_path / "other").mkdir()
    first = export(trained, tmp_path / "other", name="image/x")
    assert first["name"] == "image/x"
    assert export(trained)["digest"] == first["digest"]


def breaks_latents(monkeypatch):
    from polycodec.codecs.families.latent import LatentCodec

    read = LatentCodec.read
    monkeypatch.setattr(LatentCodec, "read", lambda *a: read(*a) + 1)


def breaks_bytes(monkeypatch):
    from polycodec.codecs.families.latent import LatentCodec

    write = LatentCodec.write

    def longer(self, codes, level):
        coded = write(self, codes, level)
        coded.data = [item + bytes(2000) for item in coded.data]
        return coded

    monkeypatch.setattr(LatentCodec, "write", longer)


def breaks_exactness(monkeypatch):
    """A layer whose integers are others where oneDNN is off."""
    from polycodec.entropy_models.exact.convolution import ExactConv2d

    forward = ExactConv2d.forward

    def elsewhere(self, x):
        y = forward(self, x)
        return y if torch.backends.mkldnn.enabled else y + 1

    monkeypatch.setattr(ExactConv2d, "forward", elsewhere)


def breaks_threads(monkeypatch):
    """A layer whose integers are others in other threads than it was calibrated in."""
    from polycodec.entropy_models.exact.convolution import ExactConv2d

    forward, usual = ExactConv2d.forward, torch.get_num_threads()
    monkeypatch.setattr(
        ExactConv2d,
        "forward",
        lambda self, x: forward(self, x) + (torch.get_num_threads() != usual),
    )


def breaks_certificate(monkeypatch):
    monkeypatch.setattr(
        "polycodec.entropy_models.exact.convolution.FLOAT64_LIMIT", 1000.0
    )
    monkeypatch.setattr(
        "polycodec.entropy_models.exact.convolution.FLOAT32_LIMIT", 10.0
    )


@pytest.mark.usefixtures("every_machine")
@pytest.mark.parametrize(
    ("breaks", "word"),
    [
        (breaks_latents, "'codes'"),
        (breaks_bytes, "'bytes'"),
        (breaks_exactness, "'codes'.*oneDNN off"),
        (breaks_threads, "'codes'.*another number of threads"),
        (breaks_certificate, "cannot be exact"),
    ],
)
def test_a_checkpoint_that_fails_is_not_a_codec(trained, monkeypatch, breaks, word):
    before = sorted(p.name for p in trained.iterdir())
    breaks(monkeypatch)
    with pytest.raises(ModelError, match=word):
        export(trained)
    assert sorted(p.name for p in trained.iterdir()) == before


def test_weights_that_are_no_numbers_are_not_a_codec(trained):
    state = torch.load(trained / "last.pt", weights_only=True)
    state["ema"]["transform.g_a.stem.weight"][0] = float("nan")
    torch.save(state, trained / "last.pt")
    with pytest.raises(ModelError, match=r"'finite'.*transform\.g_a\.stem\.weight"):
        export(trained)
    assert not (trained / "codec.safetensors").exists()


def test_export_asks_for_its_files_first(trained, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        export(trained, trained / "last.pt" / "below")
    with pytest.raises(InputError, match="no checkpoint"):
        export(tmp_path)
