# SPDX-License-Identifier: Apache-2.0
"""Values of options that parts annotate with plain types: `int`, `float | None`, ..."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Mapping
from typing import Any

from polycodec.errors import ModelError

# Types whose values are checked, and what people call their values.
PLAIN: dict[str, tuple[type, str]] = {
    "bool": (bool, "true or false"),
    "int": (numbers.Integral, "a whole number"),
    "float": (numbers.Real, "a number"),
    "str": (str, "a name"),
    "None": (type(None), "null"),
}


def lists_of(options: Mapping[str, Any], known: Mapping[str, inspect.Parameter]) -> str:
    """What the lists among ``options`` are by default, to be compared with."""
    lists = [k for k, v in options.items() if _is_list(v) and k in known]
    usual = {k: known[k].default for k in lists}
    each = [f"{k} is {list(v)}" for k, v in usual.items() if _is_list(v)]
    return f"; by default {' and '.join(each)}" if each else ""


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def check_value(name: str, option: inspect.Parameter, value: Any) -> None:
    """ModelError for a value that an option of the part ``name`` cannot have.

    An option of any other annotation takes everything.
    """
    stated = option.annotation
    text = stated if isinstance(stated, str) else inspect.formatannotation(stated)
    allowed = [word.strip() for word in text.split("|")]
    if not set(allowed) <= PLAIN.keys():
        return
    # True is a number for Python, and for nobody else.
    kinds = ["bool"] if isinstance(value, bool) else [w for w in allowed if w != "bool"]
    fits = any(k in allowed and isinstance(value, PLAIN[k][0]) for k in kinds)
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        wanted = " or ".join(PLAIN[word][1] for word in allowed)
        raise ModelError(
            f"option '{option.name}' of {name} is {value!r}; expected {wanted}"
        )
