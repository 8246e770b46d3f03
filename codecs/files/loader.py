# SPDX-License-Identifier: Apache-2.0
"""Codecs that many files need, each loaded once.

loader = Loader()
encode("a.png", codec=loader)      reads and checks all it can, then loads
encode("b.png", codec=loader)      has it already
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

from polycodec.codecs import zoo
from polycodec.codecs.files.options import ReadOptions
from polycodec.forking import fork_safe

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec


class Loader:
    """Stands for a codec until it is known which, and keeps the last few.

    Threads may share one. It loads by name, digest, checkpoint and device.
    """

    def __init__(self, most: int = 8) -> None:
        self.lock = threading.Lock()
        self._loaded = functools.lru_cache(most)(_load)

    def load(
        self, name: str, options: ReadOptions, digest: bytes | None = None
    ) -> Codec:
        """The codec; raises the errors of `polycodec.load`."""
        checkpoint = options.checkpoint and str(options.checkpoint)
        with self.lock:  # of threads that begin together only one loads
            return self._loaded(name, options.device, checkpoint, digest)


def _load(
    name: str, device: str, checkpoint: str | None, digest: bytes | None
) -> Codec:
    return zoo.load(name, device, checkpoint=checkpoint, digest=digest)


SHARED = Loader()  # of this process, for what is pickled and has none of its own
fork_safe(SHARED.lock)
