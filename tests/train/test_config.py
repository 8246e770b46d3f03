# SPDX-License-Identifier: Apache-2.0
"""What a training run is made of: config, images, schedule, optimizer."""

from __future__ import annotations

import contextlib
import pathlib

import pytest
import torch
import yaml

from polycodec.codecs import untrained
from polycodec.errors import InputError, ModelError, UnknownNameError, UsageError
from polycodec.registry import KINDS, build, find, names, options_of
from polycodec.train.config import load_config, parse_config, shipped
from polycodec.train.image.data import CropSource, ImageCache
from polycodec.train.image.task import ImageTask
from polycodec.train.optim import Muon, learning_rate, orthogonalise
from polycodec.train.schema import json_schema


def written(path: pathlib.Path, values: dict) -> pathlib.Path:
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize(
    ("section", "key", "hint"),
    [
        ("data", "crob", "data.crop"),
        ("optim", "learning_rate", "expected one of name, lr"),
        ("run", "warmup", "optim.warmup"),
        ("eval", "quality", "eval.qualities"),
        (None, "optimizer", "optim"),
        ("run", "zzz", "expected one of out, steps"),
    ],
)
def test_an_unknown_key_names_the_nearest(run_config, section, key, hint):
    (run_config[section] if section else run_config)[key] = 1
    with pytest.raises(UsageError) as caught:
        parse_config(run_config)
    assert f"unknown key '{section + '.' if section else ''}{key}'" in str(caught.value)
    assert hint in str(caught.value)


def test_wrong_and_missing_values_are_named(run_config):
    del run_config["data"]["train"]
    run_config["data"]["crop"] = 100
    with pytest.raises(UsageError, match=r"'data.train' is missing.*'data.crop'.*100"):
        parse_config(run_config)


def test_overrides(run_config, tmp_path):
    path = written(tmp_path / "c.yaml", run_config)
    changes = [
        "optim.lr=2e-3",
        "run.steps=7",
        "codec.lmbda=[1e-3, 0.2]",
        "data.train=x",
    ]
    config = load_config(path, changes)
    assert (config.optim.lr, config.run.steps, config.data.train) == (0.002, 7, "x")
    assert config.codec.options()["lmbda"] == [0.001, 0.2]
    assert load_config(path, ["task=image/latent"]).task == "image/latent"


def test_another_part_takes_no_options_of_the_one_before(run_config, tmp_path):
    run_config["optim"]["options"] = {"momentum": 0.9}
    path, said = written(tmp_path / "c.yaml", run_config), []
    changes = ["codec.entropy.hyper=4", "codec.entropy.name=hyperprior"]
    config = load_config(path, [*changes, "optim.name=adam"], said.append)
    assert config.codec.options()["entropy"] == {"name": "hyperprior", "hyper": 4}
    assert config.optim.options == {} and config.optim.lr == run_config["optim"]["lr"]
    build("codec/latent", **config.codec.options())
    assert said[0] == "optim is adam now; dropped of muon: options"
    assert "codec.entropy is hyperprior now; dropped of context: features" in said[1]
    same = load_config(path, ["codec.entropy.name=context"], said.append)
    assert same.codec == parse_config(run_config).codec and len(said) == 2


@pytest.mark.parametrize(
    "item", ["steps=3", "run.steps", "run.=3", "run.steps.x=3", "run.steps=[1", "a.b=1"]
)
def test_a_wrong_override_is_a_usage_error(run_config, tmp_path, item):
    with pytest.raises(UsageError):
        load_config(written(tmp_path / "c.yaml", run_config), [item])


def test_include_takes_a_parent_that_the_child_overrides(run_config, tmp_path):
    written(tmp_path / "base.yaml", run_config)
    child = {"include": "base.yaml", "run": {"steps": 9}}
    config = load_config(written(tmp_path / "child.yaml", child))
    assert config.run.steps == 9 and config.data.crop == 64


def test_includes_that_do_not_work_are_input_errors(run_config, tmp_path):
    written(tmp_path / "a.yaml", {"include": "b.yaml"})
    written(tmp_path / "b.yaml", {"include": "a.yaml"})
    with pytest.raises(InputError, match="includes itself"):
        load_config(tmp_path / "a.yaml")
    for text in ("include: gone.yaml", "include: [a, b]", "- 1", "a: [", ""):
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(InputError):
            load_config(tmp_path / "c.yaml")


def test_a_config_of_the_package_is_found_by_its_name(run_config, tmp_path):
    assert load_config("speech/gpu").adversary.names == ("stft", "period")
    child = {"include": "image/default", "run": {"steps": 9}}
    config = load_config(written(tmp_path / "child.yaml", child))
    assert config.run.steps == 9 and config.codec.options()["channels"] == 320
    with pytest.raises(InputError, match=r"'image/defualt'.*nearest: image/default"):
        load_config("image/defualt")


def branch(schema: dict, name: str) -> dict:
    """What a choice of parts asks for where one has this name."""
    conditions = [c for c in schema["allOf"] if name in str(c["if"])]
    assert name in schema["properties"]["name"]["enum"]
    (found,) = (
        c["then"] for c in conditions if c["if"]["properties"]["name"]["const"] == name
    )
    return found["properties"]


def test_the_schema_knows_every_part_and_its_options():
    schema = json_schema()
    for kind in set(KINDS) - {"optimizer", "task", "recipe"}:
        choice = schema["$defs"]["CodecSection" if kind == "codec" else kind]
        for name in names(f"{kind}/*"):
            found = branch(choice, name.partition("/")[2])
            options = options_of(name)
            closed = {k for k, p in options.items() if p.kind is not p.VAR_KEYWORD}
            assert set(found) == {"name", *closed}
    context = branch(schema["$defs"]["entropy"], "context")
    assert context["hyper"] == {"type": "integer", "default": 128}
    codec = branch(schema["$defs"]["CodecSection"], "latent")
    assert codec["entropy"] == {"$ref": "#/$defs/entropy"}
    muon = branch(schema["$defs"]["OptimSection"], "muon")["options"]
    assert set(muon["properties"]) >= {"momentum", "weight_decay"}
    assert not {"lr", "matrices", "params"} & set(muon["properties"])
    assert "image/latent" in schema["properties"]["task"]["anyOf"][0]["enum"]


def test_the_schema_knows_every_section_and_refuses_others():
    schema = json_schema()
    every = {"codec", "data", "optim", "run", "eval", "imports", "task", "recipe"}
    own = {"loss", "stages", "rates", "adversary", "priors", "classes"}
    assert set(schema["properties"]) == every | own
    assert schema["additionalProperties"] is False
    assert "crop" in schema["$defs"]["DataSection"]["properties"]


FITTED = untrained.configs()  # have no training
# Of the papers' sizes: at least so many parameters.
PUBLISHED = dict.fromkeys(
    ("image/granular", "image/mcquic", "image/mlicv2", "image/s2lic"), 50_000_000
)
PUBLISHED |= dict.fromkeys(
    [f"features/student{more}" for more in ("", "-answers", "-teacher")], 25_000_000
)
PUBLISHED["image/recombiner"] = 3 * (3_355_209 + 251_024)  # of each rate: A and φ


@pytest.mark.parametrize("name", sorted(set(shipped()) - set(FITTED)))
def test_every_config_of_the_project_loads_and_builds(name):
    path = shipped()[name]
    config = load_config(path)
    assert config == load_config(name)
    with torch.device("meta" if name in PUBLISHED else "cpu"):
        codec = build(f"codec/{config.codec.name}", **config.codec.options())
    size = sum(p.numel() for p in codec.parameters())
    assert size > PUBLISHED[name] if name in PUBLISHED else size < 8_000_000
    assert "polycodec train" in path.read_text().splitlines()[0]


def crops(training_images, tmp_path, **options) -> CropSource:
    cache = ImageCache(training_images, tmp_path / "cache")
    settings = {"crop": 64, "batch": 2, "seed": 1, "holdout": 3, **options}
    return CropSource(cache, **settings)


def test_a_batch_depends_on_seed_rank_and_step_only(training_images, tmp_path):
    first, again = crops(training_images, tmp_path), crops(training_images, tmp_path)
    again.batch_at(0), again.batch_at(1)
    assert torch.equal(first.batch_at(5)[0], again.batch_at(5)[0])
    x = first.batch_at(5)[0]
    assert x.shape == (2, 3, 64, 64) and x.min() >= 0 and x.max() <= 1
    assert not torch.equal(x, first.batch_at(6)[0])
    assert not torch.equal(x, first.batch_at(5, rank=1)[0])
    assert not torch.equal(x, crops(training_images, tmp_path, seed=2).batch_at(5)[0])


def test_held_out_images_are_not_trained_on(training_images, tmp_path):
    source = crops(training_images, tmp_path)
    assert source.held_out == [0, 3] and not set(source.train) & {0, 3}
    assert source.validation(64, 9).shape == (2, 3, 64, 64)
    # No more is made than is asked for: a folder may hold out a million.
    assert torch.equal(source.validation(64, 1), source.validation(64, 9)[:1])


def test_data_that_does_not_serve_is_named(training_images, tmp_path):
    with pytest.raises(InputError, match="no images below"):
        ImageCache(tmp_path / "nothing", tmp_path)
    with pytest.raises(InputError, match="as large as the crop"):
        crops(training_images, tmp_path, crop=256)
    with pytest.raises(InputError, match="256 px"):
        crops(training_images, tmp_path).validation(256, 1)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "b.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"b\.png"):
        ImageCache(broken, tmp_path)


def test_the_learning_rate_warms_up_holds_and_falls():
    at = [learning_rate(s, peak=2.0, warmup=4, steps=20, decay=0.5) for s in range(21)]
    assert at[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert at[10] == 2.0 and at[15] == pytest.approx(1.0) and at[20] == 0.0
    # Before the fall the length of the run does not matter: it can be prolonged.
    longer = [
        learning_rate(s, peak=2.0, warmup=4, steps=40, decay=0.5) for s in range(11)
    ]
    assert at[:11] == longer


def test_muon_moves_matrices_by_orthogonal_steps():
    torch.manual_seed(0)
    singular = torch.linalg.svdvals(orthogonalise(torch.randn(2, 24, 60)))
    assert singular.min() > 0.6 and singular.max() < 1.3
    conv = torch.nn.Conv2d(32, 64, 3)
    before = conv.weight.detach().clone()
    optimizer = Muon(conv.parameters(), lr=0.01, weight_decay=0.0)
    conv(torch.randn(8, 32, 12, 12)).square().sum().backward()
    optimizer.step()
    change = torch.linalg.svdvals((conv.weight - before).detach().flatten(1))
    size = 0.01 * 0.2 * 288**0.5
    assert 0.5 * size < change.min() and change.max() < 1.4 * size


def test_a_key_that_stands_twice_is_named(run_config, tmp_path):
    path = written(tmp_path / "c.yaml", run_config)
    pathlib.Path(path).write_text("run: {steps: 3}\nrun: {out: here}\n")
    with pytest.raises(InputError, match="'run' stands twice"):
        load_config(path)


def test_a_home_is_found_in_an_override(run_config, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = written(tmp_path / "c.yaml", run_config)
    config = load_config(path, ["run.out=~/run", "data.train=~/photos"])
    assert config.run.out == str(tmp_path / "run")
    assert config.data.train == str(tmp_path / "photos")


@pytest.mark.parametrize("qualities", [[], [0, 101]])
def test_qualities_that_are_none_are_named(run_config, qualities):
    run_config["eval"]["qualities"] = qualities
    with pytest.raises(UsageError, match=r"eval\.qualities"):
        parse_config(run_config)


def test_an_only_image_is_not_called_small(training_images, tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    first = sorted(training_images.glob("*.png"))[0]
    (folder / first.name).write_bytes(first.read_bytes())
    with pytest.raises(InputError, match="held out"):
        crops(folder, tmp_path)


def test_a_part_that_is_a_word_is_named(run_config):
    run_config["codec"]["transform"] = "conv"
    options = parse_config(run_config).codec.options()
    with pytest.raises(ModelError, match="'transform' is 'conv'"):
        build("codec/latent", **options)


def test_a_child_with_another_part_takes_no_options_of_the_parents(
    run_config, tmp_path
):
    written(tmp_path / "base.yaml", run_config)
    part = {"entropy": {"name": "hyperprior", "hyper": 4}}
    child = {"include": "base.yaml", "codec": part, "optim": {"name": "adam"}}
    config = load_config(written(tmp_path / "child.yaml", child))
    options = config.codec.options()
    assert options["entropy"] == part["entropy"]
    assert options["transform"] == run_config["codec"]["transform"]
    assert config.optim.lr == run_config["optim"]["lr"]


def test_every_shipped_config_sets_only_what_its_task_reads():
    found = 0
    for name in shipped():
        try:
            config = load_config(name, ["data.train=x"])
        except UsageError:  # of a fitted family, which nothing trains
            continue
        own = f"{name.partition('/')[0]}/{config.codec.name}"
        with contextlib.suppress(UnknownNameError):
            find(f"task/{config.task or own}").check_sections(config)
            found += 1
    assert found > 20


def test_a_section_that_no_task_reads_is_refused(run_config):
    run_config["adversary"] = {"names": ["patch"]}
    config = parse_config(run_config)
    with pytest.raises(UsageError, match="'adversary', which ImageTask does not read"):
        ImageTask.check_sections(config)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_numbers_that_are_none_are_refused(run_config, value):
    run_config["optim"]["lr"] = value
    with pytest.raises(UsageError, match=r"optim\.lr"):
        parse_config(run_config)
