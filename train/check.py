# SPDX-License-Identifier: Apache-2.0
"""What the self-checks of every kind of signal share.

bytes     real bytes <= 1.01 estimate + 64
machines  other ways of computing, all of which must decode what one has written
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch

from polycodec.entropy_models.exact.carrier import without_onednn
from polycodec.errors import ModelError


@contextlib.contextmanager
def _threads() -> Iterator[None]:
    """Compute with one thread more than usual."""
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


MACHINES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "another number of threads": _threads,
    "oneDNN off": without_onednn,
}


def check_bytes(size: int, bits: float, where: str) -> None:
    """Raise ModelError if ``size`` bytes are more than an estimate of ``bits`` says."""
    # Written so that an estimate which is no number fails too.
    if not 8 * size <= 1.01 * bits + 8 * 64:
        raise failed(
            "bytes",
            f"{size} bytes at {where}; expected at most {1.01 * bits / 8 + 64:.0f} "
            f"for an estimate of {bits / 8:.0f}",
        )


def failed(check: str, what: str) -> ModelError:
    """Return the error of a check that failed."""
    return ModelError(
        f"self-check '{check}' failed; {what}; this checkpoint is not a codec"
    )
