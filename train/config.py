# SPDX-License-Identifier: Apache-2.0
"""A training run as data: YAML in, checked models out.

Five sections, one level each: `codec, data, optim, run, eval`. Values only; names
look up the registry. `include: other.yaml` takes one parent. Overrides from the
command line are `section.key=value` and pass through the same checks. An unknown
key is an error that names the nearest one. `json_schema()` exports what is allowed.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polycodec.errors import InputError, UsageError


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CodecSection(Section):
    """The composition: a registered family and its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = Field("latent", description="registered codec family")

    def options(self) -> dict[str, Any]:
        """Everything but the name: keyword arguments of the family."""
        return {k: v for k, v in self.model_dump().items() if k != "name"}


class DataSection(Section):
    """Where training signals come from."""

    train: str = Field(description="folder of images")
    cache: str = Field("runs/cache", description="decoded images are kept here")
    crop: int = Field(128, ge=64, multiple_of=64, description="side in pixels")
    batch: int = Field(8, ge=1, description="crops a step and device")
    holdout: int = Field(20, ge=2, description="every n-th image validates")


class OptimSection(Section):
    """How weights move."""

    name: str = Field("muon", description="registered optimizer")
    lr: float = Field(1e-3, gt=0)
    warmup: int = Field(200, ge=0, description="steps of linear warm-up")
    decay: float = Field(0.5, ge=0, le=1, description="last part, falling to 0")
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of averaged weights")
    balance: float = Field(
        0.5, ge=0, le=1, description="loss of level λ counts λ^-balance"
    )


class RunSection(Section):
    """How long, where, and how precisely."""

    out: str = Field(description="folder of checkpoints and logs")
    steps: int = Field(ge=1)
    seed: int = 0
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed"
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(1, ge=1)
    compile: bool = False
    save_every: int = Field(500, ge=1, description="steps between checkpoints")
    log_every: int = Field(50, ge=1)
    init: str | None = Field(None, description="weights to start from (safetensors)")


class EvalSection(Section):
    """Rate and distortion on the validation split while training."""

    every: int = Field(1000, ge=1, description="steps")
    images: int = Field(16, ge=1)
    size: int = Field(256, ge=64, multiple_of=64)
    qualities: tuple[float, ...] = (0, 15, 30, 45, 60, 75, 90, 100)


class TrainConfig(Section):
    """One training run."""

    codec: CodecSection
    data: DataSection
    optim: OptimSection = OptimSection()
    run: RunSection
    eval: EvalSection = EvalSection()


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file, its parent if it includes one, and apply overrides."""
    tree = _read(Path(path))
    for item in overrides:
        key, separator, value = item.partition("=")
        parts = key.split(".")
        if not separator or len(parts) < 2:
            raise UsageError(f"override '{item}'; expected section.key=value")
        node = tree
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1]] = yaml.safe_load(value)
    return parse_config(tree)


def parse_config(tree: dict[str, Any]) -> TrainConfig:
    """Check a plain dictionary; errors say the key and the nearest known one."""
    try:
        return TrainConfig.model_validate(tree)
    except ValidationError as error:
        raise UsageError(_explain(error)) from error


def json_schema() -> dict[str, Any]:
    """JSON schema of a training config, for editors."""
    return TrainConfig.model_json_schema()


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"cannot read config {path}; {error}") from error
    if not isinstance(tree, dict):
        raise InputError(f"config {path} holds no sections; expected a mapping")
    parent = tree.pop("include", None)
    return _merge(_read(path.parent / parent), tree) if parent else tree


def _merge(base: dict, top: dict) -> dict:
    out = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merge(out[key], value) if both else value
    return out


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        where = ".".join(str(p) for p in item["loc"])
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(item["loc"][-1]), _keys(item["loc"]))
            hint = f"did you mean '{near[0]}'?" if near else "remove it"
            lines.append(f"unknown key '{where}'; {hint}")
        else:
            lines.append(f"'{where}': {item['msg']}; found {item.get('input')!r}")
    return "config is not valid; " + "; ".join(lines)


def _keys(loc: tuple) -> list[str]:
    model: Any = TrainConfig
    for part in loc[:-1]:
        model = model.model_fields[part].annotation
    return list(model.model_fields)
