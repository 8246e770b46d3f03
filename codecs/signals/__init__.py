# SPDX-License-Identifier: Apache-2.0
"""What depends on the signal: shapes, padding, tiles and windows, what a rate is."""
