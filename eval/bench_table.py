# SPDX-License-Identifier: Apache-2.0
"""The coder's benchmark as text: ratios first, then this machine's own figures."""

from __future__ import annotations

from typing import Any

# What ours is compared with, where it is there: (column, coder).
AGAINST = (
    ("C++", "plain C++"),
    ("constriction", "constriction range"),
    ("CompressAI", "CompressAI"),
)
TABLES = "gauss 3 bit"


def bench_table(result: dict[str, Any]) -> str:
    """Return the tables of a result of ``bench_coder.bench``, decode before encode."""
    rows = result["rows"]
    present = {row["coder"] for row in rows}
    against = [(label, name) for label, name in AGAINST if name in present]
    header = ["load", "coder", *(f"x {label}" for label, _ in against)]
    # Priors beside the tables that they might replace, in the same coder.
    tables = {row["coder"]: row for row in rows if row["load"] == TABLES}
    header += ["x tables", "Msym/s", "bytes", "overhead %"]
    lines = []
    for row in rows:
        base = {r["coder"]: r for r in rows if r["load"] == row["load"]}
        ratios = [_ratio(row, base.get(name)) for _, name in against]
        ratios.append(_ratio(row, tables.get(row["coder"]) if row["prior"] else None))
        speeds = f"{row['decode'] / 1e6:.1f} / {row['encode'] / 1e6:.1f}"
        over = f"{100 * row['overhead']:+.3f}"
        lines.append([row["load"], row["coder"], *ratios, speeds])
        lines[-1] += [str(row["bytes"]), over]
    machine = result["machine"]
    title = (
        f"{result['symbols']} symbols, best of all rounds, decode / encode; "
        f"{machine['processor']}, {machine['simd']}"
    )
    return "\n\n".join([title, _grid(header, lines), _tiny(result["tiny"])])


def _ratio(row: dict[str, Any], base: dict[str, Any] | None) -> str:
    if base is None:
        return "–"
    pair = (row[way] / base[way] for way in ("decode", "encode"))
    return " / ".join(
        f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in pair
    )


def _tiny(rows: list[dict[str, Any]]) -> str:
    """Bytes of streams of a few symbols; a dash: the coder cannot."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    body = [
        ["–" if row.get(name) is None else f"{row[name]:.4g}" for name in names]
        for row in rows
    ]
    return "mean bytes of tiny streams\n" + _grid(names, body)


def _grid(header: list[str], rows: list[list[str]]) -> str:
    """Columns of even width; the first two to the left, figures to the right."""
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k < 2 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [header, *rows]
    )
