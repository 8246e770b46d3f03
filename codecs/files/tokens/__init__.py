# SPDX-License-Identifier: Apache-2.0
"""Token files in and out."""
