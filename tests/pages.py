# SPDX-License-Identifier: Apache-2.0
"""A page of a report, read: it needs nothing but itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser

ADDRESSES = ("src", "href", "xlink:href", "srcset", "action", "data")


class Page(HTMLParser):
    """Collects addresses, identifiers and players of a page that stands alone."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.names: list[str] = []
        self.players = 0
        self.feed(text)
        assert self.addresses
        assert all(a.startswith(("data:", "#")) for a in self.addresses)
        assert not re.search(r"url\((?!data:|#)", text) and "@import" not in text
        assert len(self.names) == len(set(self.names))

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "link", "iframe", "object")
        self.players += tag == "audio"
        self.addresses += [value or "" for key, value in attrs if key in ADDRESSES]
        self.names += [value for key, value in attrs if key == "id"]
