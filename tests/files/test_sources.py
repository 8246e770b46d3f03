# SPDX-License-Identifier: Apache-2.0
"""A pipe is copied whole, on both sides of the size that fits into memory."""

from __future__ import annotations

import io

import pytest

from polycodec.codecs.files import sources
from polycodec.codecs.files.sources import seekable
from polycodec.errors import InputError


class Pipe(io.BytesIO):
    """Bytes that can be read once."""

    def seekable(self) -> bool:
        return False


MEMORY = 8 << 20


@pytest.mark.parametrize("size", [0, 1, MEMORY - 1, MEMORY, MEMORY + 1, MEMORY + 5000])
def test_every_length_is_copied_whole(size) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    copy = seekable(Pipe(data[:size]))
    assert isinstance(copy, io.BytesIO) == (size <= MEMORY)
    for _ in range(2):
        assert copy.read() == data[:size]
        copy.seek(0)


def test_what_was_read_already_comes_first() -> None:
    assert sources.spooled(Pipe(b"rest"), b"first ").read() == b"first rest"


def test_a_pipe_without_end_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(sources, "MAX_PIPE", 3 << 20)
    with pytest.raises(InputError, match="longer than 3145728 bytes"):
        sources.spooled(Pipe(bytes(5 << 20)))
