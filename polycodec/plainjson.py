# SPDX-License-Identifier: Apache-2.0
"""JSON that every reader takes: what is no finite number becomes null.

Python writes NaN and Infinity, which JSON does not have and other readers refuse.
"""

from __future__ import annotations

import json
import math
from typing import Any


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Data as JSON, on one line unless ``indent`` tells a width."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
