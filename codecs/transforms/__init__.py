# SPDX-License-Identifier: Apache-2.0
"""Analysis and synthesis transforms: g_a, g_s. One file and one @register each."""
