# SPDX-License-Identifier: Apache-2.0
"""What `info` and `models` print for people: one card per file or model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polycodec.codecs.files.results import readable


def card(values: Mapping[str, Any]) -> str:
    """Show the result of ``inspect.info`` in aligned lines."""
    geometry = dict(values["geometry"])
    sizes = values["chunk_bytes"]
    rates = [f"{values[u]:.3f} {u}" for u in ("bpp", "kbps") if u in values]
    rows = {
        "model": f"{values['model']}, digest {values['digest']}",
        values["kind"]: _geometry(geometry),
        "rate": ", ".join([*rates, readable(values["bytes"])]),
        "header": readable(values["header_bytes"]),
        "records": ", ".join(
            f"{r['type']} {readable(r['stored_bytes'])}" for r in values["records"]
        )
        or "none",
        "chunks": f"{values['chunks']}, {readable(sum(sizes))} in all",
    }
    if len(sizes) > 1:
        small, large = readable(min(sizes)), readable(max(sizes))
        rows["chunks"] += f", {small} to {large} each"
    return _aligned(f"{values['input']}: .plc version {values['version']}", rows)


def model_card(values: Mapping[str, Any]) -> str:
    """Show one model's card: its name, then every plain value it states."""
    plain = (str, int, float)
    rows = {
        key: f"{value:,}" if isinstance(value, int) else str(value)
        for key, value in values.items()
        if key != "name" and isinstance(value, plain)
    }
    return _aligned(str(values["name"]), rows)


def _geometry(geometry: dict[str, Any]) -> str:
    side = ("width", "height")
    parts = []
    if all(key in geometry for key in side):
        parts.append(f"{geometry['width']}x{geometry['height']}")
    parts += [f"{k} {v}" for k, v in geometry.items() if k not in side and v]
    return ", ".join(parts)


def _aligned(title: str, rows: Mapping[str, str]) -> str:
    width = max((len(key) for key in rows), default=0)
    return "\n".join([title, *(f"  {k.ljust(width)}  {v}" for k, v in rows.items())])
