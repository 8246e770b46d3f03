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


def fresh_pages(times: int) -> int:
    """Pages that the system hands out for a large tensor, made and freed so often."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(MEGABYTES << 18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not GLIBC, reason="another C library allocates in another way")
def test_large_blocks_are_used_again_until_the_end():
    with heap.kept():
        fresh_pages(8)  # the heap grows to what is needed
        assert fresh_pages(4) < 1000
    assert fresh_pages(4) > 4 * 40  # of 2 MB each, at the least: as without


def test_without_glibc_nothing_happens(monkeypatch):
    class Other:
        """A C library that has neither `mallopt` nor a version of glibc."""

    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: Other())
    with heap.kept():
        assert float(torch.ones(8).sum()) == 8
