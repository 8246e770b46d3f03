# SPDX-License-Identifier: Apache-2.0
"""Weights of a codec as one safetensors file, and a codec of such a file.

    ordinary layers     float16, small ones float32
    exact layers        the integers that they compute with
    frequency tables    integers
    header              the config that rebuilds the modules, as JSON

Its SHA-256 is the digest that coded files carry. A file names registered parts and
holds numbers: whoever loads a stranger's weights runs nothing of a stranger.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from polycodec.cuda import ScaleSet, TableSet
from polycodec.entropy_models.exact.layer import exact_layers
from polycodec.errors import InputError, ModelError, UnknownNameError, UsageError
from polycodec.registry import VARIABLE, build, parts_of_weights

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec

TABLES = "tables"
TABLE_KINDS: dict[str, type[TableSet] | type[ScaleSet]] = {
    "tables": TableSet,
    "scales": ScaleSet,
}


def save_codec(codec: Codec, path: str | Path, config: dict[str, Any]) -> str:
    """Write a frozen codec; ``config`` rebuilds it. Returns the digest, hex."""
    exact = exact_layers(codec)
    tensors: dict[str, Tensor] = {}
    for key, value in codec.state_dict().items():
        if key.rpartition(".")[0] not in exact:
            half = value.is_floating_point() and value.numel() > 4096
            tensors[key] = value.half() if half else value
    for name, layer in exact.items():
        tensors |= {f"{name}.{k}": v for k, v in layer.integers().items()}
    assert codec.entropy is not None, "a codec without tables is not stored"
    tables = codec.entropy.tables
    names = {kind: name for name, kind in TABLE_KINDS.items()}
    for name, table in tables.items():
        for key, array in table.to_arrays().items():
            kept = torch.from_numpy(array.astype("int32"))
            tensors[f"{TABLES}.{name}.{key}"] = kept
    tensors = {k: v.contiguous().cpu() for k, v in tensors.items()}
    kinds = {name: names[type(table)] for name, table in tables.items()}
    # One entry: safetensors writes several in any order, and the digest counts.
    save_file(tensors, str(path), {"config": json.dumps({**config, TABLES: kinds})})
    return digest_of(path).hex()


def load_codec(path: str | Path, *, name: str = "unnamed") -> Codec:
    """Build a codec from a weights file; ModelError when it is not one."""
    path = Path(path)
    if torch.get_default_dtype() != torch.float32:
        raise UsageError(
            f"torch's default type is {torch.get_default_dtype()}; expected "
            "torch.float32, in which codecs are built"
        )
    try:
        with safe_open(str(path), framework="pt") as file:
            config = json.loads((file.metadata() or {}).get("config", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, json.JSONDecodeError, RecursionError) as error:
        raise ModelError(f"cannot read weights {path}; {error}") from error
    if not isinstance(config, dict) or "name" not in config:
        raise ModelError(
            f"{path} holds no codec config; expected weights written by an export"
        )
    options = {k: v for k, v in config.items() if k not in ("name", TABLES)}
    digest = digest_of(path)
    try:
        with parts_of_weights(digest.hex()):
            codec = build(f"codec/{config['name']}", **options)
    except UnknownNameError as error:
        raise UnknownNameError(
            f"{error}; the weights {path} name it; if its file is not of the package "
            f"and you trust it, name it: {VARIABLE}=FILE"
        ) from error
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ModelError(f"the config in {path} builds no codec; {error}") from error
    _fill(codec, tensors, config.get(TABLES) or {}, path)
    codec.name, codec.digest = name, digest[:4]
    return codec.eval().to(memory_format=torch.channels_last)


def _fill(codec: Codec, tensors: dict[str, Tensor], kinds: Any, path: Path) -> None:
    """Copy stored tensors into the modules; every one must be there and fit.

    kinds: of stored tables, by name; those of weights that do not say are TableSets.
    """
    exact = exact_layers(codec)
    tables: dict[str, dict[str, Any]] = {}
    integers: dict[str, dict[str, Tensor]] = {}
    floats: dict[str, Tensor] = {}
    for key, value in codec.with_new_names(tensors).items():
        owner, _, leaf = key.rpartition(".")
        if key.startswith(TABLES + "."):
            tables.setdefault(key.split(".")[1], {})[leaf] = value.numpy()
        elif owner in exact:
            integers.setdefault(owner, {})[leaf] = value
        else:
            floats[key] = value.float() if value.is_floating_point() else value
    wanted = {k for k in codec.state_dict() if k.rpartition(".")[0] not in exact}
    missing = sorted(wanted ^ set(floats)) + sorted(set(exact) ^ set(integers))
    kinds = kinds if isinstance(kinds, dict) else dict.fromkeys(tables, "")
    unknown = [k for k in tables if str(kinds.get(k, TABLES)) not in TABLE_KINDS]
    if missing or unknown or codec.entropy is None:
        raise ModelError(
            f"{path} does not fit its config; check {(missing + unknown)[:3]}"
        )
    try:
        codec.load_state_dict(floats, strict=False)
        for owner, values in integers.items():
            exact[owner].load_integers(values)
        codec.entropy.tables = {
            name: TABLE_KINDS[kinds.get(name, TABLES)].from_arrays(arrays)
            for name, arrays in tables.items()
        }
    except (RuntimeError, KeyError, TypeError, InputError) as error:
        raise ModelError(f"{path} does not fit its config; {error}") from error
    broken = [k for k, v in floats.items() if not bool(v.isfinite().all())]
    broken += [k for k, v in exact.items() if not v.certificate(k).holds]
    if broken:
        raise ModelError(
            f"{path} is damaged: {', '.join(broken[:3])} has numbers that no export "
            "writes; get it again"
        )


def digest_of(path: str | Path) -> bytes:
    """SHA-256 of a weights file."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            sha.update(block)
    return sha.digest()
