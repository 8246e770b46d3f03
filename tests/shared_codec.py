# SPDX-License-Identifier: Apache-2.0
"""A codec in forked and spawned processes, while its threads are at work.

    python tests/shared_codec.py WEIGHTS

The parent has a team of OpenMP threads, and a thread of its own that never stops
coding; its children must code what it codes, and end.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
from typing import Any

import torch

from polycodec.codecs.stored import load_codec

FORKS, PATIENCE = 2, 60.0


def picture() -> torch.Tensor:
    """Large enough for torch to share the work among threads."""
    draw = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, 128, 192, generator=draw)


def code(codec: Any, answer: Any) -> None:
    """Answer with the bytes of a picture, and how many threads computed them."""
    answer.send((codec.compress(picture(), 30), torch.get_num_threads()))


def child(how: str, codec: Any) -> tuple[list[bytes], int]:
    """What a process of its own answers; an error where it hangs."""
    context: Any = multiprocessing.get_context(how)
    here, there = context.Pipe()
    process = context.Process(target=code, args=(codec, there))
    process.start()
    try:
        if not here.poll(PATIENCE):
            raise TimeoutError(f"a process that was made by {how} hangs")
        found: tuple[list[bytes], int] = here.recv()
        return found
    finally:
        process.kill()
        process.join()


def main() -> None:
    """Fail where a child codes other bytes, or none."""
    torch.set_num_threads(4)
    codec = load_codec(sys.argv[1])
    wanted, done = codec.compress(picture(), 30), threading.Event()

    def work() -> None:
        while not done.wait(0.01):
            codec.compress(picture()[..., :64, :64], 30)

    busy = threading.Thread(target=work)
    busy.start()
    try:
        for _ in range(
            FORKS if "fork" in multiprocessing.get_all_start_methods() else 0
        ):
            assert child("fork", codec) == (wanted, 1)
    finally:
        done.set()
        busy.join()
    assert child("spawn", codec)[0] == wanted


if __name__ == "__main__":
    main()
