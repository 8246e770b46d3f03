# SPDX-License-Identifier: Apache-2.0
"""The benchmarks as text: ratios first, then this machine's own figures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from polycodec.eval.bench.signals import UNITS
from polycodec.eval.text import Table, aligned

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
    known = {(row["load"], row["coder"]): row for row in rows}
    against = [pair for pair in AGAINST if any(coder == pair[1] for _, coder in known)]
    header = ["load", "coder", *(f"x {label}" for label, _ in against)]
    # Priors beside the tables that they might replace, in the same coder.
    header += ["x tables", "Msym/s", "bytes", "overhead %"]
    lines = []
    for row in rows:
        bases = [known.get((row["load"], name)) for _, name in against]
        bases.append(known.get((TABLES, row["coder"])) if row["prior"] else None)
        speeds = f"{row['decode'] / 1e6:.1f} / {row['encode'] / 1e6:.1f}"
        size, over = str(row["bytes"]), f"{100 * row['overhead']:+.3f}"
        ratios = [_ratio(row, base) for base in bases]
        lines.append([row["load"], row["coder"], *ratios, speeds, size, over])
    machine = result["machine"]
    title = (
        f"{result['symbols']} symbols, best of all rounds, decode / encode; "
        f"{machine['processor']}, {machine['simd']}"
    )
    return "\n\n".join([title, _grid(header, lines), _tiny(result["tiny"])])


def codec_table(result: dict[str, Any]) -> str:
    """Return the tables of a result of ``bench_codec.bench``, a kind each."""
    rows, about = result["rows"], result["machine"]
    parts = [
        f"best of all rounds, compress / decompress; {about['device']}; "
        f"{about['processor']}, {about['simd']}, threads {about['threads']}, "
        f"torch {about['torch']}"
    ]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        group = [row for row in rows if row["kind"] == kind]
        parts.append(_codecs(kind, group))
    if result["skipped"]:
        lines = [f"{name}: {why}" for name, why in result["skipped"].items()]
        parts.append("not measured\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _codecs(kind: str, rows: list[dict[str, Any]]) -> str:
    """The table of one kind; "x first": the speed as a multiple of the first row's."""
    units, first = UNITS[kind], rows[0]
    header = ["codec", "setting", "x first", "ms", "CPU ms", units.speed_label]
    header += ["coder %", "peak MB", "bytes", units.rate, "rounds"]
    lines = []
    for row in rows:
        ways = [(row[way], first[way]) for way in ("compress", "decompress")]
        cells = [
            _pair(base["seconds"] / one["seconds"] for one, base in ways),
            _pair(1000 * one["seconds"] for one, _ in ways),
            _pair(1000 * one["processor_seconds"] for one, _ in ways),
            _pair(one[units.speed] for one, _ in ways),
            _pair(_times(one["coder_share"], 100) for one, _ in ways),
            _pair(_times(one["peak_bytes"], 1e-6) for one, _ in ways),
            str(row["bytes"]),
            f"{row[units.rate]:.3f}",
            str(row["rounds"]),
        ]
        lines.append([row["codec"], row["setting"], *cells])
    title = f"{kind}, {units.what.format(**first)}, {first['input']}"
    return title + "\n" + _grid(header, lines)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def _pair(values: Iterable[float | None]) -> str:
    """Figures of three digits; a dash: not measured."""
    return " / ".join("–" if v is None else _digits(v) for v in values)


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


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
    return "\n".join(aligned(Table(header, rows, left=2)))
