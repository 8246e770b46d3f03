# SPDX-License-Identifier: Apache-2.0
"""Models of this user and parts from outside, as the command line shows them."""

from __future__ import annotations

import json
import pathlib
import shutil

import pytest

from polycodec import memory
from polycodec.cli.export import optional_name
from polycodec.codecs import zoo
from polycodec.errors import InputError, ModelError, UnknownNameError


@pytest.fixture
def run(tmp_path, tiny_checkpoint, monkeypatch) -> pathlib.Path:
    """An exported run in a folder, and a user without installed models."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(tiny_checkpoint, folder / "codec.safetensors")
    card = {"name": "image/mine", "modality": "image", "parameters": 5}
    (folder / "codec.json").write_text(json.dumps(card))
    return folder


def test_an_installed_model_codes_and_decodes_by_its_name(cli, photo, run, tmp_path):
    path = zoo.install(run)
    assert path == tmp_path / "data" / "polycodec" / "models" / path.name
    assert zoo.models()[-1]["name"] == "image/mine"
    assert cli("encode", photo, "-m", "image/mine")[0] == 0
    code, _, err = cli("decode", "photo.plc", "-o", "back.png")
    assert (code, err) == (0, "")
    code, out, _ = cli("info", "photo.plc", "--json")
    assert json.loads(out)["model"] == "image/mine"
    code, _, err = cli("encode", photo, "-m", "image/mina", "--force")
    assert code == 5 and "image/mine" in err


def test_names_that_cannot_be_installed(run):
    for name, word in (
        ("image/default", "ships with the package"),
        ("mine", "a kind of signal and a name"),
        ("image/../up", "a kind of signal and a name"),
        ("Image/Mine", "a kind of signal and a name"),
    ):
        (run / "codec.json").write_text(json.dumps({"name": name}))
        with pytest.raises(ModelError, match=word):
            zoo.install(run)
    assert not zoo.installed().exists()


def test_an_installed_model_is_replaced_only_by_force(run):
    path = zoo.install(run)
    with pytest.raises(InputError, match="--force"):
        zoo.install(run)
    (run / "codec.safetensors").write_bytes(b"other")
    assert zoo.install(run, force=True) == path and path.read_bytes() == b"other"


def test_a_base_is_never_replaced_by_what_needs_it(run):
    path = zoo.install(run)
    before, card = path.read_bytes(), run / "codec.json"
    about = {"modality": "image", "shrunk": {"goal": {"base": "image/mine"}}}
    card.write_text(json.dumps({"name": "image/mine", **about}))
    with pytest.raises(ModelError, match="they would replace"):
        zoo.install(run, force=True)
    card.write_text(json.dumps({"name": "image/delta", **about}))
    zoo.install(run)
    card.write_text(json.dumps({"name": "image/mine", "modality": "image"}))
    with pytest.raises(ModelError, match="needed by image/delta"):
        zoo.install(run, force=True)
    assert path.read_bytes() == before


def test_a_name_is_of_the_kind_of_the_codec(run):
    card = {"name": "speech/mine", "modality": "image"}
    (run / "codec.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match="no name for a codec of image"):
        zoo.install(run)


def test_runs_are_listed_where_they_are_named(cli, run):
    shipped = json.loads(cli("models", "--json")[1])
    code, out, _ = cli("models", run, "--json")
    listed = json.loads(out)
    assert code == 0 and listed[:-1] == shipped and listed[-1]["name"] == "image/mine"
    assert "image/mine" in cli("models", run)[1]
    code, _, err = cli("models", run.parent)
    assert code == 5 and "export" in err


def test_install_may_stand_without_a_name():
    assert optional_name(["export", "r", "--install"]) == ["export", "r", "--install="]
    with_name = ["export", "r", "--install", "image/mine", "--json"]
    assert optional_name(with_name) == with_name
    alone = optional_name(["export", "r", "--install", "--json"])
    assert alone == ["export", "r", "--install=", "--json"]


PART = """
from polycodec.registry import register

@register("signal/dust")
class Dust:
    def __init__(self, *, grains: int, colour: str = "gray") -> None:
        pass
"""


def test_parts_are_listed_with_options_and_where_they_come_from(process, tmp_path):
    (tmp_path / "dust.py").write_text(PART)
    script = (
        "import os\n"
        "os.environ['POLYCODEC_PARTS'] = 'dust.py'\n"
        "from polycodec.cli.main import main\n"
        "main(['parts', '--json'])\n"
    )
    done = process(python=("-c", script))
    assert done.returncode == 0, done.stderr.decode()
    found = {part["name"]: part for part in json.loads(done.stdout)}
    from polycodec import registry

    every = [name for kind in registry.KINDS for name in registry.names(f"{kind}/*")]
    own = {n for n in every if registry.find(n).__module__.startswith("polycodec.")}
    assert len(own) > 30 and own <= set(found)
    assert found["signal/dust"] == {
        "name": "signal/dust",
        "from": "dust.py",
        "options": [
            {"name": "grains", "type": "int", "default": None, "required": True},
            {"name": "colour", "type": "str", "default": "gray", "required": False},
        ],
    }
    assert found["transform/residual"]["from"] == "the package"


def test_parts_of_one_kind_for_people(cli):
    code, out, _ = cli("parts", "transform")
    lines = out.splitlines()
    assert code == 0 and "transform/residual  the package" in lines
    assert not [x for x in lines if "/" in x.split("  ")[0] and "transform/" not in x]
    code, out, _ = cli("parts", "transform/conv")
    names = [line for line in out.splitlines() if not line.startswith(" ")]
    assert code == 0 and names == ["transform/conv  the package"] and "width" in out
    code, _, err = cli("parts", "transform/cnov")
    assert code == 5 and "conv" in err
    code, _, err = cli("parts", "transfrom")
    assert code == 5 and "transform" in err


def test_a_user_without_a_home_has_the_shipped_models(cli, photo, run, homeless):
    names = {card["name"] for card in json.loads(cli("models", "--json")[1])}
    assert "image/default" in names and "video/nerv" in names
    assert cli("encode", photo)[0] == 0
    code, _, err = cli("encode", photo, "-m", "image/mine", "-o", "b.plc")
    assert code == 5 and "unknown model" in err
    with pytest.raises(InputError, match="XDG_DATA_HOME"):
        zoo.install(run)
    memory.remember_parts(["parts.py"], run)  # no error, and nothing is kept
    assert memory.remembered() == []


def test_a_folder_of_models_that_cannot_be_reached_hides_no_shipped_ones(monkeypatch):
    kept = pathlib.Path.glob

    def guarded(path: pathlib.Path, pattern: str):  # as for another user's folder
        if path == zoo.installed():
            raise PermissionError(13, "Permission denied", str(path))
        return kept(path, pattern)

    monkeypatch.setattr(pathlib.Path, "glob", guarded)
    monkeypatch.setattr(zoo.os, "access", lambda path, mode: False)
    assert "image/default" in [card["name"] for card in zoo.models()]
    assert zoo.load("features/cifar10").labels[0] == "airplane"
    with pytest.raises(UnknownNameError):
        zoo.load("image/none")


def test_a_checkpoint_of_compressai_takes_no_signals(cli, tmp_path):
    given = "export", tmp_path / "net.pth", "--compressai", "mbt2018", "--data", "x"
    code, _, err = cli(*given)
    assert code == 2 and "leave --data out" in err
