# SPDX-License-Identifier: Apache-2.0
"""The site's tables of options, made of the dataclasses that the functions take.

`{options of EncodeKeywords}` on a line of its own becomes a table. mkdocs calls
`on_page_markdown` for every page; mkdocs.yml names this file.
"""

from __future__ import annotations

import re
from typing import Any

from polycodec.codecs.files import keywords
from polycodec.codecs.files.kinds import KINDS
from polycodec.codecs.files.options import merged
from polycodec.codecs.files.sets import options as sets

_MARK = re.compile(r"^\{options of (\w+)\}$", re.M)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its tables in place."""
    return _MARK.sub(lambda found: table(found[1]), markdown)


def table(name: str) -> str:
    """The options of a class: name, type and default, of which kinds, what it is."""
    home = keywords if hasattr(keywords, name) else sets
    options = merged([getattr(home, name)])
    rows = ["| option | | for |", "|---|---|---|"]
    for f in options.values():
        kinds = [k.words for k in KINDS.values() if _has(k, name, f.name)]
        some = "" if len(kinds) in (0, len(KINDS)) else ", ".join(kinds)
        told = f.metadata["help"].replace("|", "\\|")
        form = str(f.type).replace("|", "\\|")
        rows.append(f"| `{f.name}`: {form} = `{f.default!r}` | {told} | {some} |")
    return "\n".join(rows)


def _has(kind: Any, name: str, option: str) -> bool:
    direction = {"EncodeKeywords": kind.encode, "DecodeKeywords": kind.decode}
    return name in direction and option in merged([direction[name]])
