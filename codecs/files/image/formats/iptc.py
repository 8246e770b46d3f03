# SPDX-License-Identifier: Apache-2.0
"""Photoshop's image resources, in which JPEG, PNG and TIFF keep IPTC.

    8BIM  id (2)  name (1 + n, even)  size (4)  data (even)      0x0404: IPTC

Reference: Adobe Photoshop File Formats Specification, image resource blocks.
"""

from __future__ import annotations

import struct

_IPTC = 0x0404


def wrapped(datasets: bytes) -> bytes:
    """Resources that hold these IPTC datasets alone."""
    head = struct.pack(">4sHHI", b"8BIM", _IPTC, 0, len(datasets))
    return head + datasets + bytes(len(datasets) % 2)


def datasets(resources: bytes) -> bytes | None:
    """The IPTC datasets in image resources; None when there are none."""
    at = 0
    while resources[at : at + 4] == b"8BIM" and at + 12 <= len(resources):
        number, name = struct.unpack_from(">HB", resources, at + 4)
        at += 6 + name + 1 + (name + 1) % 2
        size = int.from_bytes(resources[at : at + 4], "big")
        if number == _IPTC:
            return resources[at + 4 : at + 4 + size]
        at += 4 + size + size % 2
    return None
