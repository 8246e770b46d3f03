# SPDX-License-Identifier: Apache-2.0
"""Memory that a fit gives back is kept for its next step."""

from __future__ import annotations

import ctypes
import sys

import pytest
import torch

from polycodec.codecs.fitting import heap

MEGABYTES = 96
GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")


def fresh_pages() -> int:
    """The fewest pages that the system hands out for a large tensor, of many tries."""
    import resource

    found = []
    for _ in range(12):  # a heap grows first to what is needed
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(MEGABYTES << 18)
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(found)


@pytest.mark.skipif(not GLIBC, reason="another C library allocates in another way")
def test_large_blocks_are_used_again():
    with heap.kept():
        assert fresh_pages() < 16  # without, 24,577, or 48 of 2 MB


def test_at_the_end_all_is_as_usual_and_given_back(monkeypatch):
    calls: list[tuple] = []

    class Glibc:
        """One that only remembers."""

        gnu_get_libc_version = None

        def mallopt(self, *given):
            calls.append(given)

        def malloc_trim(self, *given):
            calls.append(given)

    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: Glibc())
    monkeypatch.setattr(heap.sys, "platform", "linux")
    with pytest.raises(KeyError), heap.kept():
        assert calls == list(heap.KEPT.items())
        raise KeyError
    assert calls[len(heap.KEPT) :] == [*heap.USUAL.items(), (0,)]


def test_without_glibc_nothing_happens(monkeypatch):
    class Other:
        """A C library that has neither `mallopt` nor a version of glibc."""

    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: Other())
    with heap.kept():
        assert float(torch.ones(8).sum()) == 8
