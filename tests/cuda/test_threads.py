# SPDX-License-Identifier: Apache-2.0
"""Threads that share tables and priors which no one has used before.

    8 threads, a switch every 10 us     the same bytes and symbols as one thread alone

What is made at the first use of a set (layouts, rows of scales) must be there as long
as any call reads it, whichever thread made it.
"""

from __future__ import annotations

import gc
import os
import pathlib
import threading
import weakref

import numpy as np
import pytest

from polycodec.cuda.host.library import library
from polycodec.cuda.kept import Kept

SCRIPT = pathlib.Path(__file__).parents[1] / "cold_threads.py"


@pytest.mark.parametrize(("backend", "rounds"), [("native", 40), ("numpy", 3)])
def test_threads_share_tables_that_none_has_used_before(backend, rounds, process):
    if backend == "native" and library() is None:
        pytest.skip("no C library")
    done = process(backend, str(rounds), python=(str(SCRIPT),))
    assert done.returncode == 0, done.stderr.decode()[-2000:]


COLD = """
import sys, threading
import torch
torch.set_num_threads(1)
import polycodec

x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

def code(codec):
    data = codec.compress(x, 50)
    return data, codec.decompress(data)

(wanted, shown), wrong = code(polycodec.load("image/default")), []
sys.setswitchinterval(1e-5)
for _ in range(int(sys.argv[1])):
    codec, start = polycodec.load("image/default"), threading.Barrier(8)
    def work():
        start.wait()
        try:
            data, seen = code(codec)
            if data != wanted or not torch.equal(seen, shown):
                raise AssertionError("other bytes or pixels than one thread alone")
        except BaseException as error:
            wrong.append(repr(error))
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
assert not wrong, (len(wrong), wrong[0])
"""


def test_threads_share_a_codec_that_none_has_used_before(process):
    """A first use by eight at once; POLYCODEC_COLD_ROUNDS=100 as a long run."""
    rounds = os.environ.get("POLYCODEC_COLD_ROUNDS", "1")
    done = process(rounds, python=("-c", COLD))
    assert done.returncode == 0, done.stderr.decode()[-2000:]


class Thing:
    """Something that may be weakly referred to."""


def test_all_threads_get_what_was_kept_first():
    kept, thing, found = Kept(), Thing(), []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        found.append(kept.get(thing, lambda: np.zeros(3)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and all(one is found[0] for one in found)
    assert kept.get(thing, lambda: np.ones(3)) is found[0]


def test_what_is_kept_goes_with_its_object():
    kept, thing = Kept(), Thing()
    made = weakref.ref(kept.get(thing, Thing))
    assert made() is not None
    del thing
    gc.collect()
    assert made() is None
