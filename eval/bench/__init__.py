# SPDX-License-Identifier: Apache-2.0
"""How fast: the range coder and whole codecs, beside others."""
