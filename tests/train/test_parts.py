# SPDX-License-Identifier: Apache-2.0
"""Parts beside a config: imported, remembered, and never because a run says so."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator

import pytest
import yaml

pytest.importorskip("lightning", reason="the extra 'train' is not installed")

from polycodec import registry
from polycodec.errors import InputError, ModelError
from polycodec.train.checkpoint import read_checkpoint
from polycodec.train.config import load_config
from polycodec.train.export import export
from polycodec.train.loop import Trainer

# Says that it ran, in a file beside it.
PARTS = """
import pathlib
from polycodec.registry import find, register

pathlib.Path(__file__).with_name("ran").touch()

@register("transform/outside")
class Outside(find("transform/conv")):
    pass

@register("task/image/outside")
class OutsideTask(find("task/image/latent")):
    def line(self, values):
        return "outside"
"""


def as_new() -> None:
    """As in another process: nothing from outside is imported."""
    for name, part in list(registry._ENTRIES.items()):
        if part.__module__.startswith("polycodec_parts"):
            del registry._ENTRIES[name]
    for name in [name for name in sys.modules if name.startswith("polycodec_parts")]:
        del sys.modules[name]
    registry._LOADED.discard(registry.GROUP)


@pytest.fixture
def config(run_config, tmp_path, monkeypatch) -> Iterator[pathlib.Path]:
    """A config whose parent imports a file of parts, for a user of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    (tmp_path / "own").mkdir()
    (tmp_path / "own/parts.py").write_text(PARTS)
    run_config["codec"]["transform"] = {"name": "outside", "width": 8}
    parent = {**run_config, "imports": ["parts.py"], "task": "image/outside"}
    (tmp_path / "own/parent.yaml").write_text(yaml.safe_dump(parent))
    child = tmp_path / "c.yaml"
    child.write_text("include: own/parent.yaml\nimports: [json]\nrun: {steps: 2}\n")
    as_new()
    yield child
    as_new()


def test_a_codec_of_outside_parts_trains_resumes_and_exports(config, tmp_path, capsys):
    checked = load_config(config)
    parts = str(tmp_path / "own/parts.py")
    assert checked.imports == (parts, "json")
    Trainer(checked).train()
    assert "outside" in capsys.readouterr().err
    as_new()
    Trainer(load_config(config, ["run.steps=3"]), resume=True).train()
    assert read_checkpoint(tmp_path / "run")["step"] == 3
    as_new()  # now nobody names the parts
    card = export(tmp_path / "run")
    assert card["config"]["imports"] == ["parts.py", "json"]
    as_new()
    from polycodec.codecs.zoo import load

    assert type(load(checkpoint=tmp_path / "run").transform).__name__ == "Outside"


def test_a_strangers_run_runs_nothing(config, tmp_path, monkeypatch):
    Trainer(load_config(config)).train()
    as_new()
    (tmp_path / "own/ran").unlink()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "somebody"))
    parts = tmp_path / "own/parts.py"
    with pytest.raises(ModelError, match=f"'outside'.*POLYCODEC_PARTS={parts}"):
        export(tmp_path / "run")
    assert not (tmp_path / "own/ran").exists()
    monkeypatch.setenv("POLYCODEC_PARTS", str(parts))
    as_new()
    assert export(tmp_path / "run")["steps"] == 2


@pytest.mark.parametrize(
    ("imports", "said"),
    [
        ("[gone.py]", "gone.py"),
        ("[no.such.module]", r"no\.such\.module"),
        ("parts.py", "expected a list"),
        ("[3]", "expected a list"),
    ],
)
def test_imports_that_do_not_work_are_named(config, imports, said):
    config.write_text(f"include: own/parent.yaml\nimports: {imports}\n")
    with pytest.raises(InputError, match=said):
        load_config(config)


def test_a_codec_that_no_task_trains_says_what_to_register(config):
    config.write_text(config.read_text() + "task: image/nothing\n")
    with pytest.raises(ModelError, match=r"'image/nothing'.*'task/image/latent'"):
        Trainer(load_config(config))


def test_remembered_parts_that_broke_are_left_out_with_a_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    for name in ("broken.py", "gone.py"):
        (tmp_path / name).write_text("1 / 0\n")
    registry.remember_parts(["broken.py", "gone.py"], tmp_path)
    (tmp_path / "gone.py").unlink()
    as_new()
    with pytest.warns(UserWarning, match="broken.py.*ZeroDivisionError"):
        assert "transform/conv" in registry.names("transform/*")
    as_new()
