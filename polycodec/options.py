# SPDX-License-Identifier: Apache-2.0
"""Values of options that parts annotate with plain types: `int`, `float | None`, ..."""

from __future__ import annotations

import inspect
import math
import numbers
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
