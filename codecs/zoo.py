# SPDX-License-Identifier: Apache-2.0
"""Weights by name: what ships with the package, and what this user installed.

    image/default  ->  weights/image-default.safetensors  +  .json (the card)
    image/mine     ->  ~/.local/share/polycodec/models/image-mine.safetensors  +  .json

`models()` reads cards and configs only, so listing models loads no torch. A run's
folder holds `codec.safetensors` in the same format once it has been exported; `install`
copies it. Codecs that have no weights are configs (`untrained.py`).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polycodec.atomic import atomic_write, check_target
from polycodec.codecs import untrained
from polycodec.errors import (
    DigestMismatchError,
    InputError,
    ModelError,
    UnknownNameError,
    UsageError,
)
from polycodec.home import own_folder
from polycodec.plainjson import to_json

if TYPE_CHECKING:
    import torch

    from polycodec.codecs.base import Codec

logger = logging.getLogger(__name__)
WEIGHTS = Path(__file__).parent / "weights"
EXPORTED = "codec.safetensors"
# What a .plc file can hold as the name of its model, with the kind of signal first.
_NAME = re.compile(r"[a-z0-9]+/[a-z0-9._+-]{1,100}")


def installed() -> Path:
    """The folder of the models that this user installed; it may not exist.

    InputError for a user without a home, who has none installed.
    """
    return own_folder("data") / "models"


def _folders() -> list[Path]:
    """Where weights lie by name: in the package, and where this user installs them.

    Who cannot reach the latter, as in a container with another's home, has the former.
    """
    with contextlib.suppress(InputError):
        if os.access(own := installed(), os.R_OK | os.X_OK):
            return [WEIGHTS, own]
    return [WEIGHTS]


def models() -> list[dict[str, Any]]:
    """Cards of models, shipped ones first: name, modality, parameters, digest …"""
    shipped, *own = (map(_card, sorted(f.glob("*.json"))) for f in _folders())
    return [*shipped, *untrained.cards(), *itertools.chain(*own)]


def card_of_run(run: str | Path) -> dict[str, Any]:
    """The card of an exported run, or of a weights file."""
    return _card(weights_of_run(run).with_suffix(".json"))


def _card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot read the card {path}; {error}") from error
    if not isinstance(card, dict) or not isinstance(card.get("name"), str):
        raise ModelError(
            f"the card {path} is no JSON object with a 'name'; get it again"
        )
    return card


def weights_of(name: str) -> Path:
    """The weights file of a model by name; UnknownNameError lists the nearest."""
    if name in untrained.configs():
        raise ModelError(
            f"'{name}' has no weights, it is fitted to each signal; expected a model "
            "that has some; 'polycodec models' lists them"
        )
    known = {card["name"] for card in models()} - untrained.configs().keys()
    for place in _folders():
        path = _place(place, name)
        if name in known and path.is_file():
            return path
    raise UnknownNameError.of("model", name, known)


def install(run: str | Path, *, force: bool = False) -> Path:
    """Keep an exported run for this user under its card's name; return its weights.

    Raises ModelError for a name that ships with the package or that no file can hold,
    and InputError when a model of the name is installed and ``force`` is not set.
    """
    weights = weights_of_run(run)
    card = card_of_run(run)
    name, kind = card["name"], card.get("modality")
    check_install(name, kind, base=_base_of(card), force=force)
    path = _place(installed(), name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, force=force) as file, weights.open("rb") as source:
        shutil.copyfileobj(source, file)
    with atomic_write(path.with_suffix(".json"), force=True) as file:
        file.write(to_json(card, indent=2).encode())
    return path


def check_name(name: str) -> None:
    """Refuse a name that cannot be installed: a shipped one, or one of another form."""
    if not _NAME.fullmatch(name):
        raise ModelError(
            f"'{name}' cannot be installed; expected a kind of signal and a name, such "
            "as image/mine, of a-z 0-9 . _ + -; choose another with --name"
        )
    if _place(WEIGHTS, name).is_file() or name in untrained.configs():
        raise ModelError(
            f"'{name}' ships with the package and cannot be replaced; choose another "
            "name"
        )


def check_install(
    name: str, kind: str | None, *, base: str | None = None, force: bool = False
) -> None:
    """Refuse what `install` would: to be asked before the work.

    kind: of the signals of the codec. base: the model that its weights are a difference
    from. ModelError also where weights would lose what they are a difference from.
    """
    check_name(name)
    if kind is not None and name.partition("/")[0] != kind:
        raise ModelError(
            f"'{name}' is no name for a codec of {kind}; choose {kind}/..., such as "
            f"{kind}/{name.partition('/')[2]}"
        )
    if base == name:
        raise ModelError(
            f"these weights are a difference from '{name}', which they would replace: "
            "nobody could read them any more; choose another name"
        )
    path = _place(installed(), name)
    if path.is_file():
        check_target(path, force=force)
        needed = [card["name"] for card in models() if _base_of(card) == name]
        if needed:
            raise ModelError(
                f"'{name}' is needed by {', '.join(needed)}: their weights are a "
                "difference from it; choose another name, or remove them first"
            )


def _base_of(card: dict[str, Any]) -> str | None:
    """The model that a card's weights are a difference from."""
    found: Any = card
    for key in ("shrunk", "goal", "base"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


def _place(folder: Path, name: str) -> Path:
    return folder / f"{name.replace('/', '-')}.safetensors"


def weights_of_run(run: str | Path) -> Path:
    """The exported weights of a training run, or a weights file itself."""
    run = Path(run)
    path = run if run.is_file() else run / EXPORTED
    if not path.is_file():
        raise ModelError(
            f"no exported codec in {run}; expected {EXPORTED}; run "
            f"'polycodec export {run}' first"
        )
    return path


def weights_at(place: str | Path) -> Path:
    """The weights of a run, a weights file, or those of a model by name."""
    return weights_of_run(place) if Path(place).exists() else weights_of(str(place))


def load(
    name: str = "image/default",
    device: str = "cpu",
    *,
    checkpoint: str | Path | None = None,
    digest: bytes | None = None,
) -> Codec:
    """Load a codec, ready to compress, on ``device`` (cpu, cuda or auto).

    ``checkpoint``: a run's folder or weights file instead of the shipped weights.
    ``digest``: first bytes of the SHA-256 that a file asks for; other weights are a
    DigestMismatchError, because their output would be noise.
    """
    from polycodec.codecs.stored import load_codec
    from polycodec.cuda import backend

    started = time.perf_counter()
    if not isinstance(name, str):
        raise UsageError(f"the model is {name!r}; expected a name, as models() lists")
    if path := untrained.config_of(name, checkpoint):
        codec = untrained.build_codec(path, name)
        check_digest(name, codec.digest, digest)
    else:
        path = weights_of_run(checkpoint) if checkpoint else weights_of(name)
        check_digest(name, _checked_digest(path), digest)
        codec = load_codec(path, name=name)
    codec = codec.to(resolve_device(device))
    logger.info(
        "%s of %s, digest %s, on %s; range coder: %s; loaded in %.2f s",
        *(name, path, codec.digest.hex(), codec.device, backend()),
        time.perf_counter() - started,
    )
    return codec


def _checked_digest(path: Path) -> bytes:
    """The digest of weights; ModelError unless it is the one of their card."""
    from polycodec.codecs.stored import digest_of

    found, card = digest_of(path), path.with_suffix(".json")
    if card.is_file() and _card(card).get("digest", found.hex()) != found.hex():
        raise ModelError(
            f"the weights {path} are not those of their card {card.name}; expected "
            f"SHA-256 {_card(card)['digest']}, found {found.hex()}; they are damaged: "
            "install or export them again"
        )
    return found


def check_digest(name: str, found: bytes, digest: bytes | None) -> None:
    """DigestMismatchError unless ``found`` begins with the wanted ``digest``."""
    if digest is not None and found[: len(digest)] != digest:
        raise DigestMismatchError(
            f"the file was made with other weights of '{name}'; expected digest "
            f"{digest.hex()}, found {found[: len(digest)].hex()}; pass the weights it "
            "was made with (--checkpoint), or the polycodec version that shipped them"
        )


def resolve_device(device: str) -> torch.device:
    """'auto' is CUDA where there is one; ModelError for a device that is not here."""
    import torch

    device = str(device)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(
            "device 'cuda' is not available here; found a CPU only; use --device cpu: "
            "the bytes are the same"
        )
    try:
        found = torch.device(device)
    except RuntimeError:  # says all that torch ever heard of
        found = torch.device("meta")
    if found.type not in ("cpu", "cuda"):
        raise UsageError(f"'{device}' is no device here; expected auto, cpu or cuda")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"device '{device}' is not available here; found "
            f"{torch.cuda.device_count()} of them; they are counted from 0"
        )
    return found
