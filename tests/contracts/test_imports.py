# SPDX-License-Identifier: Apache-2.0
"""The house's rules on imports, read from the source and tried in fresh processes.

cli -> train, eval -> codecs.files -> codecs -> entropy_models -> cuda
errors and registry: leaves that everybody may import
"""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("codecs", "entropy_models", "cuda", "train", "eval", "polycodec")

# Floors from the cellar up; a room may import its own floor's room and lower floors.
FLOORS = {
    "errors": 0,
    "codecs.measures": 0.5,  # for training and reports alike
    "registry": 0.5,  # a leaf too, but for the errors it raises
    "cuda": 1,
    "entropy_models": 2,
    "codecs.heads": 2.2,
    "codecs.transforms": 2.3,
    "codecs.quantizers": 2.4,  # a cascade has networks between its levels
    "codecs.signals": 2.6,  # tiles and windows need to know how far transforms look
    "codecs": 3,
    "codecs.families": 3.5,
    "codecs.files": 4,
    "train": 5,
    "eval": 5,
    "cli": 6,
}
NO_TORCH = (
    "polycodec",
    "polycodec.errors",
    "polycodec.registry",
    "polycodec.cli.main",
    "polycodec.codecs",
    "polycodec.codecs.measures.image",
    "polycodec.codecs.measures.speech",
    "polycodec.codecs.zoo",
    "polycodec.codecs.files.container.file",
    "polycodec.codecs.files.container.inspect",
    "polycodec.codecs.files.kinds",
    "polycodec.codecs.files.image.read",
    "polycodec.codecs.files.speech.resample",
    "polycodec.codecs.files.speech.write",
    "polycodec.cuda",
    "polycodec.train.config",
    "polycodec.eval",
)


def sources() -> list[pathlib.Path]:
    return sorted(p for f in FOLDERS for p in (ROOT / f).rglob("*.py"))


def imported(path: pathlib.Path) -> Iterator[str]:
    """Names of all modules a file imports, at its top or inside functions.

    But for types: what stands under TYPE_CHECKING is never run.
    """
    for node in run(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def run(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`."""
    yield node
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    for child in ast.iter_child_nodes(node):
        yield from run(child)


def room(module: str) -> str | None:
    """The room of `polycodec.codecs.files.api` is `codecs.files`; None: the door."""
    parts = module.split(".")
    if parts[0] != "polycodec" or len(parts) == 1:
        return None
    name = parts[1]
    if name.startswith("cli") or name == "__main__":
        return "cli"
    if name == "codecs" and len(parts) > 2:
        inner = f"codecs.{parts[2]}"
        return inner if inner in FLOORS else name
    return name if name in FLOORS else None


def module_of(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "polycodec" else ("polycodec", *parts)
    return ".".join(parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downwards(path):
    here = room(module_of(path))
    if here is None:
        return
    for name in imported(path):
        there = room(name)
        if there is None or there == here:
            continue
        down = FLOORS[there] < FLOORS[here]
        assert down, f"{path.relative_to(ROOT)} ({here}) imports {name} ({there})"


def test_our_folders_are_never_imported_by_themselves():
    ours = set(FOLDERS) - {"polycodec"}
    for path in [*sources(), *(ROOT / "tests").glob("*.py")]:
        for name in imported(path):
            first = name.split(".")[0]
            # `codecs` is the standard library's, which nobody needs here.
            assert first not in ours, f"{path.relative_to(ROOT)} imports {name}"
            assert name != "polycodec.eval.eval" and name != "polycodec.tests"


def test_tests_are_no_package():
    assert not (ROOT / "tests" / "__init__.py").exists()


def test_light_modules_never_load_torch(process):
    script = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'lightning', 'matplotlib'} & set(sys.modules)\n"
        "    assert not heavy, f'{name} loads {heavy}'\n"
    )
    done = process(*NO_TORCH, python=("-c", script))
    assert done.returncode == 0, done.stderr.decode()


def test_commands_without_pixels_never_load_torch(
    loaded_by, cli, photo, tiny_checkpoint
):
    assert cli("encode", photo, "-o", "p.plc", "--checkpoint", tiny_checkpoint)[0] == 0
    for args in (["info", "p.plc"], ["verify", "p.plc"], ["models"]):
        loaded = loaded_by(*args)
        assert "polycodec.cli.main" in loaded and "torch" not in loaded, args


def test_help_loads_nothing_heavy(process):
    script = (
        "import sys\n"
        "from polycodec.cli.main import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit:\n"
        "    heavy = {'torch', 'numpy', 'PIL', 'rich', 'pydantic'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    done = process(python=("-c", script))
    assert done.returncode == 0 and b"encode" in done.stdout, done.stderr.decode()
