# SPDX-License-Identifier: Apache-2.0
"""The range coder: one arithmetic, several back ends, one bitstream."""

from polycodec.cuda.checksum import crc32c

__all__ = ["crc32c"]
