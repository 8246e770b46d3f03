# SPDX-License-Identifier: Apache-2.0
"""A C library of another build is refused: by ABI number, then by structures' sizes."""

from __future__ import annotations

import ctypes
import ctypes.util
import pathlib

import pytest

from polycodec import cuda
from polycodec.cuda import StreamEncoder, TableSet
from polycodec.cuda.host import abi, library
from polycodec.cuda.host.layouts import prepare
from polycodec.errors import UsageError

pytestmark = pytest.mark.skipif(
    library.library() is None, reason=f"no C library: {library.reason()}"
)
OTHERS = [
    ({"ABI": abi.ABI + 1}, f"has ABI {abi.ABI}, expected {abi.ABI + 1}"),
    *(
        ({"SIZES": {**abi.SIZES, name: size + 8}}, f"{name} has {size} bytes, not")
        for name, size in abi.SIZES.items()
    ),
]


@pytest.fixture
def fresh():
    """Load the library anew in this test, and again after it."""
    library._load.cache_clear()
    yield
    library._load.cache_clear()


@pytest.mark.parametrize(("change", "message"), OTHERS)
def test_another_build_is_refused_and_numpy_codes(fresh, monkeypatch, change, message):
    monkeypatch.delenv("POLYCODEC_CODER", raising=False)
    for name, value in change.items():
        monkeypatch.setattr(abi, name, value)
    assert library.library() is None and message in library.reason()
    assert cuda.backend() == "numpy"
    with pytest.raises(UsageError, match=r"polycodec\.cuda\.host\.build"):
        StreamEncoder(backend="native")


def test_every_size_of_the_library_is_compared():
    loaded = ctypes.CDLL(str(library.PATH))
    assert loaded.polycodec_sizeof(len(abi.SIZES)) == -1


def test_what_is_no_coder_is_refused(tmp_path):
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(OSError):
        library.Library(tmp_path / "text.so")
    with pytest.raises(OSError, match="not the coder"):  # some other library
        library.Library(pathlib.Path(ctypes.util.find_library("m")))


def test_a_structure_keeps_the_arrays_behind_its_addresses():
    struct = prepare(TableSet.from_pmfs([[1, 2]], [0], 8))
    fields = [name for name, kind in abi.Tables._fields_ if kind is ctypes.c_void_p]
    for name in fields:
        address = getattr(struct, name)
        kept = struct.arrays[name].ctypes.data if name in struct.arrays else None
        assert address == kept, name
