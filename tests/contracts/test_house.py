# SPDX-License-Identifier: Apache-2.0
"""The house's rules on files: folders instead of prefixes, and nothing left behind.

What setup.py and pyproject.toml pack must be all there is: a folder or a file that a
wheel lacks is noticed here, not by whoever installed it.
"""

from __future__ import annotations

import ast
import collections
import pathlib
import re

import pytest

import polycodec

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; pytest brings this one there
    import tomli as tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKED = PROJECT["tool"]["setuptools"]
ROOMS = {name: ROOT / folder for name, folder in PACKED["package-dir"].items()}
OURS = (*ROOMS.values(), ROOT / "docs", ROOT / "tests")
# What a build, an editor or a run leaves behind.
LITTER = re.compile(r"__pycache__|/build/|\.egg-info|\.hypothesis|/_rans\.|/\.")
MOST = 3  # files of a folder that may share a prefix

# Folders of data where more files share a prefix, and why they may.
FOLDERS_THAT_MAY = {
    "codecs/weights": "a model's name, whose first half is its kind of signal",
    "cuda/device/prebuilt": "NVIDIA's own names of architectures",
    "tests/golden/v1/files": "a file each for what was coded and how, never added to",
    "tests/golden/v1/weights": "the weights that those files were made with",
}


def files() -> list[pathlib.Path]:
    every = (path for folder in OURS for path in folder.rglob("*") if path.is_file())
    return [p for p in every if not LITTER.search(f"/{p.relative_to(ROOT)}")]


def test_no_family_of_files_by_prefix():
    families = collections.defaultdict(list)
    for path in files():
        prefix = re.split("[_-]", path.stem.removeprefix("test_"))[0]
        folder = path.parent.relative_to(ROOT).as_posix()
        if prefix:  # none: __init__ and __main__
            families[folder, prefix].append(path.name)
    large = {key: sorted(names) for key, names in families.items() if len(names) > MOST}
    assert {folder for folder, _ in large} == set(FOLDERS_THAT_MAY), large


def test_the_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {polycodec.__version__}\n" in citation
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[^]]*)\] - \d{4}-\d\d-\d\d$", changes, re.M)
    assert released[0] == polycodec.__version__


def test_every_room_is_mapped_and_packed():
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    said = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    packed = {f"polycodec.{room}" for room in ast.literal_eval(said["ROOMS"])}
    assert packed | {"polycodec"} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS)
def test_every_folder_with_modules_is_a_package(room):
    # setup.py finds packages by this file.
    lacking = {
        folder
        for path in room.rglob("*.py")
        for folder in (path.parent, *path.parent.parents)
        if folder.is_relative_to(room) and not (folder / "__init__.py").is_file()
    }
    assert not lacking


def test_every_file_of_a_room_is_in_the_wheel():
    packed = {
        path
        for name, patterns in PACKED["package-data"].items()
        for pattern in patterns
        for path in ROOMS[name].glob(pattern)
    }
    inside = {p for p in files() if any(map(p.is_relative_to, ROOMS.values()))}
    left = {p for p in inside if p.suffix != ".py"} - packed
    assert not left, sorted(str(path.relative_to(ROOT)) for path in left)
