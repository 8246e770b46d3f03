# SPDX-License-Identifier: Apache-2.0
"""What tables say of symbols that are tensors, on the device that they lie on.

    codable(values, indexes, tables)       the nearest that can be coded
    symbol_bits(values, indexes, tables)   what coding them costs

The same numbers as `TableSet` has on the host.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from polycodec.cuda import TableSet
from polycodec.cuda.kept import Kept

_NEAR: Kept[dict[str, Tensor]] = Kept()


def _near(tables: TableSet, device: torch.device) -> dict[str, Tensor]:
    """What a table set says of symbols, on a device; brought there once."""
    return _NEAR.get(tables, lambda: _bring(tables, device), device)


def _bring(tables: TableSet, device: torch.device) -> dict[str, Tensor]:
    rows = dict(zip(("low", "high"), tables.limits, strict=True))
    rows |= {"minimum": tables.minimum, "sizes": tables.sizes, "ideal": tables.ideal}
    rows["first"] = tables.first.astype(np.int32)
    # Not of inference mode, which may be on now: autograd may use them later.
    with torch.inference_mode(False):
        return {k: torch.from_numpy(np.array(v)).to(device) for k, v in rows.items()}


def codable(values: Tensor, indexes: Tensor, tables: TableSet) -> Tensor:
    """The nearest values that their tables can code; TableSet.clamp for tensors.

    values: any shape, integers or rounded floats. indexes: the same shape, integers.
    """
    near, at = _near(tables, values.device), indexes.reshape(-1).int()
    low, high = (
        near[name].index_select(0, at).view(values.shape) for name in ("low", "high")
    )
    return torch.clamp(values, low.to(values.dtype), high.to(values.dtype))


def symbol_bits(values: Tensor, indexes: Tensor, tables: TableSet) -> Tensor:
    """Bits of codable values by their tables, float64 of their shape."""
    near, at = _near(tables, values.device), indexes.reshape(-1).int()
    first, minimum, sizes = (
        near[name].index_select(0, at) for name in ("first", "minimum", "sizes")
    )
    slot = values.reshape(-1).int() - minimum + 1
    slot = torch.where((slot < 1) | (slot >= sizes), 0, slot)  # 0: an escape
    return near["ideal"].index_select(0, first + slot).view(values.shape)
