# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that are empty, foreign or damaged are named, and run nothing."""

from __future__ import annotations

import io
import pathlib
import pickle
import zipfile

import pytest
import torch

from polycodec.errors import InputError, ModelError
from polycodec.train.checkpoint import CHECKPOINT, read_checkpoint, write_checkpoint

STATE = {
    "step": 1,
    "seconds": 2.0,
    "codec": {"weight": torch.ones(999)},
    "ema": {},
    "optimizer": {},
    "config": "{}",
    "task": {},
}


class Touch:
    """A pickle that would leave a file behind if it were run."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


def stored(state: object) -> bytes:
    out = io.BytesIO()
    torch.save(state, out)
    return out.getvalue()


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def test_what_was_written_is_read(tmp_path):
    write_checkpoint(STATE, tmp_path)
    found = read_checkpoint(tmp_path)
    assert torch.equal(found["codec"]["weight"], STATE["codec"]["weight"])
    assert {k: v for k, v in found.items() if k != "codec"} == {
        k: v for k, v in STATE.items() if k != "codec"
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty; its writing was cut"),
        (b"hello, this is text\n" * 99, "cannot read the checkpoint"),
        (stored(STATE)[:-99], "cannot read the checkpoint"),
        (zipped(a=b"another program's"), "cannot read the checkpoint"),
        (stored([1, 2]), "is no checkpoint of a run"),
        (stored({**STATE, "step": "one"}), r"\['step'\] are missing, or of another"),
        (stored({**STATE, "config": "{"}), "the config .* is no JSON"),
        (stored({**STATE, "config": "[" * 99999}), "the config .* is no JSON"),
        (pickle.dumps(STATE["task"]), "cannot read the checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path, data, message):
    (tmp_path / CHECKPOINT).write_bytes(data)
    with pytest.raises(ModelError, match=message) as error:
        read_checkpoint(tmp_path)
    assert CHECKPOINT in str(error.value) and "weights_only" not in str(error.value)


def test_a_flipped_bit_of_a_weight_is_named(tmp_path):
    data = bytearray(stored(STATE))
    data[data.find(torch.ones(9).numpy().tobytes()) + 40] ^= 1
    (tmp_path / CHECKPOINT).write_bytes(data)
    with pytest.raises(ModelError, match=r"is damaged: .* has changed"):
        read_checkpoint(tmp_path)


def test_code_in_a_checkpoint_is_named_and_not_run(tmp_path):
    state = {**STATE, "task": Touch(tmp_path / "touched")}
    (tmp_path / CHECKPOINT).write_bytes(stored(state))
    with pytest.raises(ModelError, match="nothing of it was run"):
        read_checkpoint(tmp_path)
    assert not (tmp_path / "touched").exists()


def test_a_run_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no checkpoint at .*; train first"):
        read_checkpoint(tmp_path)
