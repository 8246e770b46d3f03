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
from polycodec.importing import FILES
from polycodec.memory import remember_parts
from polycodec.train.checkpoint import read_checkpoint
from polycodec.train.config import load_config, parse_config
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
        if part.__module__.startswith(FILES):
            del registry._ENTRIES[name]
    for name in [name for name in sys.modules if name.startswith(FILES)]:
        del sys.modules[name]
    registry._CLAIMS.clear()
    registry._LOADED.difference_update({registry.GROUP, registry.VARIABLE})


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


def test_the_task_of_another_family_is_named(run_config):
    run_config["task"] = "speech/token"
    with pytest.raises(ModelError, match="made for a TokenCodec; found a LatentCodec"):
        Trainer(parse_config(run_config))


def test_remembered_parts_that_broke_are_left_out_with_a_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    for name in ("broken.py", "gone.py"):
        (tmp_path / name).write_text("1 / 0\n")
    remember_parts(["broken.py", "gone.py"], tmp_path)
    (tmp_path / "gone.py").unlink()
    as_new()
    with pytest.warns(UserWarning, match="broken.py.*ZeroDivisionError"):
        assert "transform/conv" in registry.names("transform/*")
    as_new()


TWIN = """
from polycodec.registry import find, register

@register("transform/twin")
class Twin(find("transform/conv")):
    pass
"""


@pytest.fixture
def twins(run_config, tmp_path, monkeypatch) -> Iterator[list[pathlib.Path]]:
    """Two folders, one a copy of the other with another word in it; both trained."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    run_config["codec"]["transform"] = {"name": "twin", "width": 8}
    files = []
    for seed, name in enumerate(("mine", "mine2")):
        as_new()
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / "parts.py")
        files[-1].write_text(f"{TWIN}    made_by = '{name}'\n")
        tree = {**run_config, "imports": [str(files[-1])]}
        tree["run"] = {**run_config["run"], "out": str(tmp_path / f"run-{name}")}
        config = tmp_path / name / "codec.yaml"
        config.write_text(yaml.safe_dump(tree))
        Trainer(load_config(config, ["run.steps=1", f"run.seed={seed}"])).train()
    as_new()
    yield files
    as_new()


def test_a_copy_of_a_part_never_takes_the_place_of_the_first(twins, tmp_path):
    from polycodec.codecs.zoo import load

    with pytest.raises(ModelError, match=f"claimed by {twins[0]} and by {twins[1]}"):
        registry.find("transform/twin")
    assert list(registry.rivals("transform/*")) == ["transform/twin"]
    for name in ("mine", "mine2"):
        as_new()
        export(tmp_path / f"run-{name}")
    as_new()
    for name in ("mine2", "mine", "mine2"):  # in one process, and in any order
        codec = load(checkpoint=tmp_path / f"run-{name}")
        assert codec.transform.made_by == name
    as_new()
    registry.import_parts([str(twins[1])])  # who names one file names it for new codecs
    assert registry.find("transform/twin").made_by == "mine2"
    codec = load(checkpoint=tmp_path / "run-mine")
    assert codec.transform.made_by == "mine"
    with pytest.raises(ModelError, match=f"twice: by {twins[1]} and by {twins[0]}"):
        registry.import_parts([str(twins[0])])


def test_weights_whose_parts_are_gone_say_which_file_it_was(
    twins, tmp_path, monkeypatch
):
    from polycodec.codecs.zoo import load

    export(tmp_path / "run-mine")
    as_new()
    moved = twins[0].rename(tmp_path / "moved.py")
    with pytest.raises(ModelError, match=f"'transform/twin' of {twins[0]}, which is g"):
        load(checkpoint=tmp_path / "run-mine")
    as_new()
    monkeypatch.setenv("POLYCODEC_PARTS", str(moved))
    assert load(checkpoint=tmp_path / "run-mine").transform.made_by == "mine"
    as_new()
    monkeypatch.delenv("POLYCODEC_PARTS")
    twins[1].unlink()
    with pytest.raises(ModelError, match=f"are gone, .*{twins[1]}.*POLYCODEC_PARTS"):
        registry.find("transform/twin")


@pytest.mark.parametrize("first", ["outside", "package"])
def test_a_name_of_the_package_is_taken_whichever_comes_first(
    tmp_path, monkeypatch, first
):
    file = tmp_path / "parts.py"
    file.write_text(TWIN.replace("twin", "conv").replace("Twin", "ConvTransform"))
    if first == "package":
        registry.find("transform/conv")
    own = r"conv\.py"
    with pytest.raises(ModelError, match=rf"twice: by .*{own} and by {file}"):
        registry.import_parts([str(file)])
    assert registry.is_ours(registry.find("transform/conv"))
    as_new()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    remember_parts([str(file)], tmp_path)
    with pytest.warns(UserWarning, match=rf"twice: by .*{own} and by {file}"):
        assert registry.is_ours(registry.find("transform/conv"))
        registry.names("transform/*")
    as_new()


def test_a_file_may_come_again(tmp_path):
    file = tmp_path / "parts.py"
    file.write_text(TWIN)
    for _ in range(2):
        for name in [name for name in sys.modules if name.startswith(FILES)]:
            del sys.modules[name]
        registry.import_parts(["parts.py"], tmp_path)
    assert registry.source_of(registry.find("transform/twin")) == str(file)
    as_new()


def test_parts_that_leave_are_parts_that_cannot_be_imported(tmp_path):
    (tmp_path / "parts.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(InputError, match=r"cannot import the parts.*SystemExit"):
        registry.import_parts(["parts.py"], tmp_path)


def test_files_of_names_that_look_alike_are_two(tmp_path):
    for folder in ("a_b", "a/b_c"):
        (tmp_path / folder).mkdir(parents=True)
    for name, file in (("one", "a_b/c.py"), ("two", "a/b_c.py")):
        (tmp_path / file).write_text(TWIN.replace("twin", name))
        registry.import_parts([file], tmp_path)
    assert registry.find("transform/one") and registry.find("transform/two")
    as_new()
