# SPDX-License-Identifier: Apache-2.0
"""What every codec can do, written once: freeze, save, load, compress, decompress.

    training          codec(x, level)                        -> x_hat, bits
    export            codec.freeze(calibration)              -> certificates
    use               codec.compress(x) -> list of bytes,  codec.decompress(bytes)

A codec's file contains only what is particular to it. Weights are one safetensors
file: ordinary layers in float16, exact layers and frequency tables as integers, the
config that rebuilds the modules as JSON in its header. Its SHA-256 is the digest
that files carry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from polycodec.cuda import TableSet
from polycodec.entropy_models.exact.convolution import (
    Certificate,
    exact_layers,
    freeze,
    observe,
)
from polycodec.errors import ModelError
from polycodec.registry import build

TABLES = "tables"


class Codec(nn.Module):
    """Base of all codecs. ``name`` and ``digest`` are set when weights are loaded."""

    name = "unnamed"
    digest = b"\0\0\0\0"
    # 'latent.entropy' names the module that holds integer tables.
    entropy: nn.Module

    @property
    def ready(self) -> bool:
        """Whether tables are frozen, so that real bytes can be made."""
        return bool(self.entropy.tables)

    @torch.no_grad()
    def freeze(self, calibrate: Callable[[Codec], Any]) -> list[Certificate]:
        """Put the entropy path on integers; returns the certificate of each layer.

        ``calibrate`` runs the codec on typical input: the largest values seen fix
        the grids. Afterwards the codec can code, and is no longer trained.
        """
        self.eval()
        observe(self, True)
        calibrate(self)
        observe(self, False)
        self.entropy.update()
        return freeze(self)

    def save(self, path: str | Path, config: dict[str, Any]) -> str:
        """Write the frozen codec; ``config`` rebuilds it. Returns the digest, hex."""
        exact = exact_layers(self)
        tensors: dict[str, Tensor] = {}
        for key, value in self.state_dict().items():
            if key.rpartition(".")[0] not in exact:
                half = value.is_floating_point() and value.numel() > 4096
                tensors[key] = (value.half() if half else value).contiguous()
        for name, layer in exact.items():
            tensors |= {f"{name}.{k}": v for k, v in layer.integers().items()}
        for name, tables in self.entropy.tables.items():
            for key, array in tables.to_arrays().items():
                kept = torch.from_numpy(array.astype("int32"))
                tensors[f"{TABLES}.{name}.{key}"] = kept
        tensors = {k: v.contiguous().cpu() for k, v in tensors.items()}
        save_file(tensors, str(path), {"config": json.dumps(config)})
        return digest_of(path).hex()


def load_codec(path: str | Path, *, name: str = "unnamed") -> Codec:
    """Build a codec from a weights file; ModelError when it is not one."""
    path = Path(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            config = json.loads((file.metadata() or {}).get("config", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise ModelError(f"cannot read weights {path}; {error}") from error
    if not isinstance(config, dict) or "name" not in config:
        raise ModelError(
            f"{path} holds no codec config; expected weights written by an export"
        )
    options = {k: v for k, v in config.items() if k != "name"}
    codec = build(f"codec/{config['name']}", **options)
    _fill(codec, tensors, path)
    codec.name, codec.digest = name, digest_of(path)[:4]
    return codec.eval().to(memory_format=torch.channels_last)


def _fill(codec: Codec, tensors: dict[str, Tensor], path: Path) -> None:
    """Copy stored tensors into the modules; every one must be there and fit."""
    exact = exact_layers(codec)
    tables: dict[str, dict[str, Any]] = {}
    integers: dict[str, dict[str, Tensor]] = {}
    floats: dict[str, Tensor] = {}
    for key, value in tensors.items():
        owner, _, leaf = key.rpartition(".")
        if key.startswith(TABLES + "."):
            tables.setdefault(key.split(".")[1], {})[leaf] = value.numpy()
        elif owner in exact:
            integers.setdefault(owner, {})[leaf] = value
        else:
            floats[key] = value.float() if value.is_floating_point() else value
    wanted = {k for k in codec.state_dict() if k.rpartition(".")[0] not in exact}
    missing = sorted(wanted ^ set(floats)) + sorted(set(exact) ^ set(integers))
    if missing:
        raise ModelError(f"{path} does not fit its config; check {missing[:3]}")
    try:
        codec.load_state_dict(floats, strict=False)
        for owner, values in integers.items():
            exact[owner].load_integers(values)
    except (RuntimeError, KeyError) as error:
        raise ModelError(f"{path} does not fit its config; {error}") from error
    codec.entropy.tables = {k: TableSet.from_arrays(v) for k, v in tables.items()}


def digest_of(path: str | Path) -> bytes:
    """SHA-256 of a weights file."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            sha.update(block)
    return sha.digest()
