# SPDX-License-Identifier: Apache-2.0
"""Tags of sounds and videos (title, artist, ...) as a record of their file.

tags_record({"title": "Ode"})     JSON; None where there are none
tags_of(reader)                   back; what is no object of strings is left out
"""

from __future__ import annotations

import json

from polycodec.codecs.files.container.file import Reader, Record


def tags_record(tags: dict[str, str]) -> Record | None:
    """The record of tags."""
    if not tags:
        return None
    text = json.dumps(tags, ensure_ascii=False, separators=(",", ":"))
    return Record("tags", text.encode("utf-8", "replace"))


def tags_of(reader: Reader) -> dict[str, str]:
    """The tags of the source; what is no object of strings is left out."""
    data = reader.header.record("tags")
    try:
        tags = json.loads(data.decode("utf-8")) if data else {}
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        tags = None
    if not isinstance(tags, dict):
        reader.warnings.append("the tags are no JSON object and are left out")
        return {}
    return {str(k): v for k, v in tags.items() if isinstance(v, str)}
