# SPDX-License-Identifier: Apache-2.0
"""A codec's analysis with twice the digits, for codes that no order of sums changes.

    float32   sums in another order differ in the 7th digit: of a million codes, some
    float64   in the 16th: a code changes where two are equally near to 15 digits

Streams that take frames as they come run networks on pieces of any length, and of many
signals side by side; libraries then sum in other orders, with other threads too. What
is coded must not show it, so latents and codes of such streams are made in float64, of
the same weights.
"""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any

from torch import Tensor

from polycodec.forking import fork_safe

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec

_LOCK = fork_safe(threading.Lock())
_NAME = "_precise"  # of what is kept in a codec: a mark of its weights, and the twin


def precise(codec: Codec) -> Codec:
    """A copy of a codec in float64, without its entropy model; made once.

    It is made anew where weights were changed or replaced since.
    """
    mark = [_mark(t) for t in (*codec.parameters(), *codec.buffers())]
    with _LOCK:
        found: tuple[Any, Codec] | None = codec.__dict__.get(_NAME)
        if found is None or found[0] != mark:
            without = {id(codec.entropy): None, id(found): None}
            twin = copy.deepcopy(codec, without)
            found = mark, twin.eval().double()
            codec.__dict__[_NAME] = found
        return found[1]


def _mark(tensor: Tensor) -> tuple[int, int]:
    """What changes with a tensor's place and with its values."""
    version = 0 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), version
