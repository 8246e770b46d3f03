# SPDX-License-Identifier: Apache-2.0
"""Video: clips of 8-bit 4:2:0, beside x264, x265 and SVT-AV1."""
