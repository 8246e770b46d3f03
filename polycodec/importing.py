# SPDX-License-Identifier: Apache-2.0
"""Importing parts that are not the package's: modules by name, files by path."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from pathlib import Path

from polycodec.errors import InputError, ModelError

FILES = "polycodec_parts."  # what modules of files are called


def imported(item: str, folder: str | os.PathLike[str]) -> str:
    """Import a module, or a file as seen from ``folder``; its name among the modules.

    InputError with the reason when it cannot be imported.
    """
    try:
        if item.endswith(".py"):
            return _import_file(Path(folder, item).resolve())
        importlib.import_module(item)
        return item
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"cannot import the parts '{item}'; {type(error).__name__}: {error}; "
            "expected the name of a module, or a .py file beside the config"
        ) from error


def _import_file(path: Path) -> str:
    """Import a file once; its name among the modules is of the whole path."""
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()
    name = f"{FILES}{path.stem}_{digest[:16]}"
    if name in sys.modules:
        return name
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses of the file look themselves up here
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return name


def is_there(item: str) -> bool:
    """Whether remembered parts still exist: a deleted file is forgotten."""
    if item.endswith(".py"):
        return Path(item).is_file()
    try:
        return importlib.util.find_spec(item) is not None
    except (ImportError, ValueError):
        return False
