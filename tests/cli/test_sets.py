# SPDX-License-Identifier: Apache-2.0
"""The commands pack and unpack, and what info and verify say of a set."""

from __future__ import annotations

import json
import os
import pathlib


def test_packed_listed_and_taken_out(cli, tree, tiny_checkpoint):
    weights = "--checkpoint", tiny_checkpoint
    code, out, err = cli("pack", tree, "-o", "all.plc", "-q", 40, *weights)
    assert code == 0 and "3 images" in out and "q 40" in out
    assert "notes.txt: no image" in err
    code, out, err = cli("pack", tree, "-o", "all.plc", *weights)
    assert code == 3 and "exists already" in err
    code, out, _ = cli("info", "all.plc")
    assert code == 0 and "2019/b.png" in out and "bpp" in out
    only = "unpack", "all.plc", "--only", "2019/b*", "-o", "some", "--json", *weights
    code, out, _ = cli(*only)
    assert code == 0
    assert [json.loads(line)["input"] for line in out.splitlines()] == ["2019/b.png"]
    assert os.listdir("some") == ["2019"]
    rest = "unpack", "all.plc", "-o", "some", "--skip-existing", "--json", *weights
    code, out, err = cli(*rest)
    assert code == 0 and "exists already" in out + err
    assert sum('"output"' in line for line in out.splitlines()) == 2
    assert cli(*rest)[0] == 0

    data = bytearray(pathlib.Path("all.plc").read_bytes())
    data[-1] ^= 1
    pathlib.Path("bad.plc").write_bytes(data)
    code, out, err = cli("unpack", "bad.plc", *weights)
    assert code == 4 and out.count("\n") == 2 and "1 of 3" in err
    code, out, err = cli("unpack", "all.plc", "-o", "none")
    assert code == 5 and "other weights" in err and err.count("\n") == 1
    code, _, err = cli("verify", "bad.plc")
    assert code == 4 and "is damaged" in err
    code, _, err = cli("decode", "all.plc")
    assert code == 3 and "polycodec unpack" in err


def test_an_image_that_cannot_be_read_ends_packing_or_is_listed(
    cli, tree, tiny_checkpoint
):
    weights = "--checkpoint", tiny_checkpoint
    (tree / "2019" / "z.png").write_bytes(b"\x89PNG")
    code, out, err = cli("pack", tree, "-o", "all.plc", *weights)
    assert code == 3 and "z.png" in err and not os.path.exists("all.plc")
    code, out, err = cli("pack", tree, "-o", "all.plc", "--keep-going", *weights)
    assert code == 3 and "1 image" in err and "2019/z.png" in err
    assert "3 images" in out and os.path.exists("all.plc")
