# SPDX-License-Identifier: Apache-2.0
"""Weights of a codec as one safetensors file, and a codec of such a file.

    ordinary layers     float16, small ones and what is larger than its range float32
    exact layers        the integers that they compute with
    frequency tables    integers
    header              the config that rebuilds the modules, as JSON

A file may be *packed*: its one tensor then holds all others, coded (`packed`), as they
are or as differences from another model. Its SHA-256 is the digest that coded files
carry. A file names registered parts and holds numbers: whoever loads a stranger's
weights runs nothing of a stranger.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from polycodec.codecs.packed import Predicted, pack, said_count, unpack
from polycodec.codecs.quantizers.weights.base import Choice
from polycodec.codecs.rebuilt import rebuilt
from polycodec.codecs.zoo import EXPORTED
from polycodec.cuda import ScaleSet, TableSet
from polycodec.entropy_models.exact.layer import exact_layers
from polycodec.entropy_models.relative.blocks import NormalPrior
from polycodec.errors import InputError, ModelError, UsageError

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec

TABLES, CODED = "tables", "coded"
PACKED_VERSION = 1
LARGEST = float(torch.finfo(torch.float16).max)
_MOST_OF_TABLES = 1 << 24  # numbers of all tables together
TABLE_KINDS: dict[str, Any] = {
    "tables": TableSet,
    "scales": ScaleSet,
    "normal": NormalPrior,
}


def save_codec(codec: Codec, path: str | Path, config: dict[str, Any]) -> str:
    """Write a frozen codec; ``config`` rebuilds it. Returns the digest, hex."""
    return write_weights(codec, path, config_of(codec, config), tensors_of(codec))


def tensors_of(codec: Codec) -> dict[str, Tensor]:
    """Return all tensors of a frozen codec by the names they are stored under."""
    exact = exact_layers(codec)
    tensors: dict[str, Tensor] = {}
    for key, value in codec.state_dict().items():
        if key.rpartition(".")[0] not in exact:
            large = value.is_floating_point() and value.numel() > 4096
            fits = large and bool((value.abs() <= LARGEST).all())
            tensors[key] = value.half() if fits else value
    for name, layer in exact.items():
        tensors |= {f"{name}.{k}": v for k, v in layer.integers().items()}
    for name, table in _tables(codec).items():
        for key, array in table.to_arrays().items():
            kept = torch.from_numpy(array.astype("int32"))
            tensors[f"{TABLES}.{name}.{key}"] = kept
    return {k: v.contiguous().cpu() for k, v in tensors.items()}


def config_of(codec: Codec, config: dict[str, Any]) -> dict[str, Any]:
    """Return the config that weights keep: that of the modules, and kinds of tables."""
    names = {kind: name for name, kind in TABLE_KINDS.items()}
    kinds = {name: names[type(table)] for name, table in _tables(codec).items()}
    return {**config, TABLES: kinds}


def approximable(codec: Codec) -> set[str]:
    """Return the names of stored tensors that may be approximated."""
    exact = exact_layers(codec)
    floats = {
        key
        for key, value in codec.state_dict().items()
        if value.is_floating_point() and key.rpartition(".")[0] not in exact
    }
    return floats | {f"{n}.{key}" for n, v in exact.items() for key in v.coarse}


def write_weights(
    codec: Codec,
    path: str | Path,
    config: dict[str, Any],
    tensors: dict[str, Tensor],
    plan: Mapping[str, Choice] | None = None,
    base: str | None = None,
    memo: dict[tuple[str, Choice], bytes] | None = None,
) -> str:
    """Write tensors of a codec with its `config_of`; returns the digest, hex.

    plan: how tensors are coded, by name; with one the file is packed (`packed`), also
    with an empty one. base: a model by name, from which the differences are stored.
    memo: see `pack`.
    """
    if plan is not None:
        about: dict[str, Any] = {"version": PACKED_VERSION, **about_base(base)}
        guess, memo = predictor(codec, about), {} if memo is None else memo
        # Grids first: they say what is expected of integers.
        later = approximable(codec)
        tensors = dict(sorted(tensors.items(), key=lambda item: item[0] in later))
        coded, about["tensors"] = pack(tensors, plan, guess, memo)
        config, tensors = {**config, CODED: about}, {CODED: coded}
    # One entry: safetensors writes several in any order, and the digest counts.
    text = json.dumps(config, separators=(",", ":") if plan is not None else None)
    save_file(tensors, str(path), {"config": text})
    return digest_of(path).hex()


def load_codec(path: str | Path, *, name: str = "unnamed") -> Codec:
    """Build a codec of a weights file, or a run's folder; ModelError for others."""
    path = Path(path)
    path = path / EXPORTED if path.is_dir() else path
    codec, config, tensors = read_weights(path)
    fill(codec, tensors, config, path)
    codec.name, codec.digest = name, digest_of(path)[:4]
    laid_out: Any = codec.eval()  # the types of torch do not know this option
    return laid_out.to(memory_format=torch.channels_last)


def read_weights(path: Path) -> tuple[Codec, dict[str, Any], dict[str, Tensor]]:
    """Return the codec of a file, not yet filled, its config and its tensors.

    The config is without what is said of coding; tensors are decoded. ModelError for a
    file that holds no weights.
    """
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
    about = config.pop(CODED, None)
    found = sum(v.numel() for v in tensors.values()) + said_count(about)
    options = {k: v for k, v in config.items() if k not in ("name", TABLES)}
    codec = rebuilt(config["name"], options, path, digest_of(path).hex(), found)
    if about is not None:
        tensors = _unpacked(codec, tensors, about, path)
    return codec, config, tensors


def _unpacked(
    codec: Codec, tensors: dict[str, Tensor], about: Any, path: Path
) -> dict[str, Tensor]:
    """The tensors of a packed file; ModelError that names the file."""
    version = about.get("version") if isinstance(about, dict) else None
    if version != PACKED_VERSION or set(tensors) != {CODED}:
        raise ModelError(
            f"{path} is packed by version {str(version)[:20]}; expected "
            f"{PACKED_VERSION}; it is of a newer polycodec or damaged: update, or get "
            "it again"
        )
    # Integers of exact layers stand beside their parameters, tables beside both.
    most = 2 * sum(v.numel() for v in codec.state_dict().values()) + _MOST_OF_TABLES
    try:
        predicted = predictor(codec, about)
        return unpack(tensors[CODED], about.get("tensors"), predicted, most)
    except ModelError as error:
        raise ModelError(f"cannot read weights {path}; {error}") from error


def predictor(codec: Codec, about: Mapping[str, Any]) -> Predicted:
    """Return what tensors are expected to be by a file's base, if it names one.

    about: ``base``, a model's name and its digest in hex.
    """
    if about.get("base") is None:
        return lambda name, found: None
    match about["base"]:
        case [str(name), str(digest)]:
            path = _base_path(name)
        case other:
            raise ModelError(f"the base is {str(other)[:80]}; expected name and digest")
    if (found := digest_of(path).hex()) != digest:
        raise ModelError(
            f"they are a difference from other weights of '{name}'; expected digest "
            f"{digest[:8]}, found {found[:8]}; get the version that they were made from"
        )
    _, _, tensors = read_weights(path)
    tensors = with_new_names(codec, tensors)
    exact = exact_layers(codec)

    def predicted(key: str, found: Mapping[str, Tensor]) -> Tensor | None:
        owner, _, leaf = key.rpartition(".")
        if owner not in exact or leaf not in exact[owner].coarse:
            return tensors.get(key)
        own, before = (
            {k.rpartition(".")[2]: v for k, v in every.items() if _owner(k) == owner}
            for every in (found, tensors)
        )
        try:
            return exact[owner].regridded(before, own)[leaf]
        except (KeyError, RuntimeError) as error:
            raise ModelError(
                f"the base does not fit {owner}; {error}; expected the model that "
                "these weights were fine-tuned from; name that one"
            ) from error

    return predicted


def about_base(base: str | None) -> dict[str, Any]:
    """Return what a file says of the model by name that it is a difference from."""
    return {} if base is None else {"base": [base, digest_of(_base_path(base)).hex()]}


def _owner(key: str) -> str:
    return key.rpartition(".")[0]


def _base_path(name: str) -> Path:
    from polycodec.codecs.zoo import weights_of

    return weights_of(name)


def _tables(codec: Codec) -> Mapping[str, TableSet | ScaleSet | NormalPrior]:
    assert codec.entropy is not None, "a codec without tables is not stored"
    return codec.entropy.tables


def fill(
    codec: Codec, tensors: Mapping[str, Tensor], config: Mapping[str, Any], path: Path
) -> None:
    """Copy stored tensors into the modules; every one must be there and fit.

    config: says of what kind stored tables are; TableSets where it does not.
    """
    kinds = config.get(TABLES) or {}
    exact = exact_layers(codec)
    tables: dict[str, dict[str, Any]] = {}
    integers: dict[str, dict[str, Tensor]] = {}
    floats: dict[str, Tensor] = {}
    for key, value in with_new_names(codec, tensors).items():
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


def with_new_names(codec: Codec, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state whose tensors had the names of earlier versions, ``codec.renamed``."""
    prefixes = codec.renamed
    named = {}
    for key, value in state.items():
        old = next((p for p in prefixes if key.startswith(p)), None)
        new = key if old is None else prefixes[old] + key.removeprefix(old)
        named[new] = value
    return named
