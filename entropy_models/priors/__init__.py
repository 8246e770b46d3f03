# SPDX-License-Identifier: Apache-2.0
"""How likely each integer is: objects made by a network's output, and their tables."""
