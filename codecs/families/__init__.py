# SPDX-License-Identifier: Apache-2.0
"""How numbers become integers, whatever the signal."""
