# SPDX-License-Identifier: Apache-2.0
"""docs/adding-a-part.md happens as it says, with nothing of the package changed.

Blocks follow a comment: `<!-- file: name -->` is written, `<!-- run -->` is run, each
in a fresh process, so that later ones find the parts as a later user would.
"""

from __future__ import annotations

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("lightning")

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "adding-a-part.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^<!-- (file|run)(?:: )?([^\n]*) -->\n```\w+\n(.*?)^```", re.M | re.S
)
CONTRACTS = ("registry", "transforms")
# All commands of a block, in one process.
SCRIPT = """
import shlex, sys
from polycodec.cli.main import main
for line in sys.argv[1].splitlines():
    try:
        main(shlex.split(line)[1:])
    except SystemExit as ended:
        assert not ended.code, line
"""


@pytest.fixture
def desk(tmp_path, photo, training_images, monkeypatch) -> pathlib.Path:
    """The folder that the page speaks of, of a user who has nothing yet."""
    shutil.copytree(training_images, tmp_path / "photos")
    for variable in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    return tmp_path


def test_the_page_happens(desk, process, monkeypatch):
    said = []
    for what, name, text in BLOCK.findall(PAGE):
        if what == "file":
            path = desk / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif what == "run":
            done = process(text, python=("-c", SCRIPT))
            assert done.returncode == 0, done.stderr.decode()
            said.append(done.stdout.decode())
    assert len(said) == 2
    assert "transform/patches" in said[1] and "image/mine" in said[1]
    coded, back = (desk / name for name in ("photo.plc", "back.png"))
    assert (
        np.asarray(Image.open(back)).shape
        == np.asarray(Image.open(desk / "photo.png")).shape
    )
    contracts = (ROOT / "tests/contracts" / f"test_{n}.py" for n in CONTRACTS)
    monkeypatch.setenv("POLYCODEC_PARTS", str(desk / "mine/parts.py"))
    options = ("-rA", "-p", "no:cacheprovider", "-k", "patches or laplace")
    done = process(*options, *contracts, python=("-m", "pytest"))
    assert done.returncode == 0, done.stdout.decode()
    assert b"stated[patches]\n" in done.stdout and b"entropy/laplace" in done.stdout
    info = process("info", coded, "--json")
    assert json.loads(info.stdout)["model"] == "image/mine"
