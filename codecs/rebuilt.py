# SPDX-License-Identifier: Apache-2.0
"""The modules of a stored config, no more of them than the numbers beside it fill.

A config is a stranger's. Modules allocate a parameter, hand it to their owner, then
fill it; memory that nobody has written to costs nothing, so the owner's hook comes in
time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules import module

from polycodec.errors import ModelError, UnknownNameError
from polycodec.registry import VARIABLE, build, parts_of_weights

if TYPE_CHECKING:
    from polycodec.codecs.base import Codec

MORE = 1 << 20  # numbers of a network that are not stored
# What parts raise for options that nobody would give them.
_NOT_BUILT = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError),
    *(ModelError, RuntimeError, TypeError, ValueError),
)


def rebuilt(
    name: str, options: Mapping[str, Any], path: Path, digest: str, numbers: int
) -> Codec:
    """Build the codec of a weights file that has so many ``numbers``.

    digest: the file's, in hex; parts outside the package that were trusted for it are
    taken. Raises ModelError for a config that builds nothing, or more than that.
    """
    try:
        # Exact layers have integers beside their parameters.
        with parts_of_weights(digest), at_most(2 * numbers + MORE):
            codec: Codec = build(f"codec/{name}", **options)
    except UnknownNameError as error:
        raise UnknownNameError(
            f"{error}; the weights {path} name it; if its file is not of the package "
            f"and you trust it, name it: {VARIABLE}=FILE"
        ) from error
    except _NOT_BUILT as error:
        raise ModelError(f"the config in {path} builds no codec; {error}") from error
    return codec


@contextlib.contextmanager
def at_most(numbers: int) -> Iterator[None]:
    """ModelError in what builds modules of more parameters and buffers than so many.

    Other threads may build what they like meanwhile.
    """
    own, left = threading.get_ident(), numbers

    def seen(owner: nn.Module, name: str, value: Any) -> None:
        nonlocal left
        if value is None or threading.get_ident() != own:
            return
        left -= value.numel()
        if left < 0:
            raise ModelError(
                f"it asks for a network of more than {numbers} numbers, as many as "
                "come with it; it is damaged"
            )

    with contextlib.ExitStack() as stack:
        for hook in (
            module.register_module_parameter_registration_hook,
            module.register_module_buffer_registration_hook,
        ):
            stack.callback(hook(seen).remove)
        yield
