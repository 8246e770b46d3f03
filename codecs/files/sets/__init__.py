# SPDX-License-Identifier: Apache-2.0
"""Many images in one file: packed, listed, taken out one by one."""
