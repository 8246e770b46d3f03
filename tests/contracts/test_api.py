# SPDX-License-Identifier: Apache-2.0
"""The names of `polycodec` as editors, type checkers and `help` show them."""

from __future__ import annotations

import ast
import importlib
import pathlib
import pydoc

import pytest

import polycodec

HOME = pathlib.Path(polycodec.__file__).parent  # of a checkout or of an install
ROOMS = ("codecs", "cuda", "entropy_models", "eval", "train")

# What a user may write, and what a type checker has to say of it.
USER = {
    "codec = polycodec.load()": None,
    "reveal_type(codec)": "polycodec.codecs.base.Codec",
    "reveal_type(codec.compress([], quality=40))": "list[bytes]",
    "a = polycodec.encode('a.png', 'a.plc', quality=60, tile=64, codec=codec)": None,
    "reveal_type(a)": "polycodec.codecs.files.results.ImageEncoded |",
    "assert isinstance(a, polycodec.ImageEncoded)": None,
    "reveal_type(a.bpp)": "float",
    "b = polycodec.decode(b'', region=(1, 2, 3, 4))": None,
    "reveal_type(b)": "polycodec.codecs.files.results.ImageDecoded |",
    "reveal_type(polycodec.tokens('a.wav').codes)": "Any",
    "reveal_type(polycodec.info('a.plc'))": "dict[str, Any]",
    "reveal_type(polycodec.verify('a.plc'))": "dict[str, Any]",
    "reveal_type(polycodec.models())": "list[dict[str, Any]]",
    "reveal_type(polycodec.errors.InputError.exit_code)": "int",
    "polycodec.encode('a.png', qualty=3)": '"qualty"',
    "polycodec.encode('a.png', quality='high')": 'expected "float | None"',
    "polycodec.decode('a.plc', seconds=3)": '"seconds" to "__call__"',
    "polycodec.tokens('a.wav', tile=3)": '"tile"',
    "polycodec.load(7)": 'expected "str"',
    "polycodec.nope()": '"nope"',
}
SETTINGS = """
[mypy]
python_version = 3.10
ignore_missing_imports = true
[mypy-torch.*,numpy.*,PIL.*,pydantic.*,soundfile.*,av.*]
follow_imports = skip
[mypy-polycodec.*]
ignore_errors = true
"""


def test_dir_shows_the_public_names_and_no_others():
    assert dir(polycodec) == sorted(polycodec.__all__)
    assert all(hasattr(polycodec, name) for name in polycodec.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = polycodec.nope


def test_type_checkers_are_told_of_the_same_names_at_the_same_places():
    tree = ast.parse((HOME / "__init__.py").read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If) and node.orelse]
    told = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == polycodec._HOME
    assert set(polycodec.__all__) == {*told, "errors", "__version__"}


def test_help_lists_functions_with_their_options():
    page = pydoc.plain(pydoc.render_doc(polycodec))
    functions = page[page.index("\nFUNCTIONS") : page.index("\nVERSION")]
    for words in ("encode(input:", "target_bpp: float | None = None", "    load("):
        assert words in functions, words
    assert "__getattr__" not in functions and "__dir__" not in functions


def test_a_user_program_is_checked_against_real_signatures(process, tmp_path):
    pytest.importorskip("mypy")
    package = tmp_path / "installed" / "polycodec"  # laid out as an install does it
    package.mkdir(parents=True)
    rooms = [importlib.import_module(f"polycodec.{room}") for room in ROOMS]
    for path in {*HOME.iterdir(), *(pathlib.Path(room.__path__[0]) for room in rooms)}:
        (package / path.name).symlink_to(path)
    user = tmp_path / "installed" / "user.py"
    user.write_text("\n".join(["import polycodec", *USER]))
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    script = (
        "import os, sys\n"
        "os.chdir('installed')\n"
        "from mypy.main import main\n"
        "main(args=['--config-file', '../mypy.ini', '--cache-dir', '../cache',\n"
        "           '--no-error-summary', 'user.py'], clean_exit=True)\n"
    )
    said = process(python=("-c", script)).stdout.decode()
    for k, (line, expected) in enumerate(USER.items()):
        found = [text for text in said.splitlines() if f"user.py:{k + 2}:" in text]
        if expected is None:
            assert not found, (line, found)
        else:
            assert found and expected in found[0], (line, found, said)
