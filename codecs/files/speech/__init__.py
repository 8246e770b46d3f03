# SPDX-License-Identifier: Apache-2.0
"""Speech files in and out."""
