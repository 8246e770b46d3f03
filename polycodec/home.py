# SPDX-License-Identifier: Apache-2.0
"""This user's own folders, by the XDG base directory specification.

own_folder("cache")   ~/.cache/polycodec          what can be had again
own_folder("config")  ~/.config/polycodec         what this user's trainings brought
own_folder("data")    ~/.local/share/polycodec    models that this user installed
"""

from __future__ import annotations

import os
from pathlib import Path

from polycodec.errors import InputError

_BELOW_HOME = {"cache": ".cache", "config": ".config", "data": ".local/share"}


def own_folder(kind: str) -> Path:
    """The folder of a kind; it may not exist. InputError for a user without a home."""
    variable = f"XDG_{kind.upper()}_HOME"
    try:
        base = os.environ.get(variable) or Path.home() / _BELOW_HOME[kind]
    except RuntimeError as error:
        raise InputError(
            f"there is no place for polycodec's {kind}; expected a home folder, found "
            f"none for this user; set HOME or {variable}"
        ) from error
    return Path(base) / "polycodec"
