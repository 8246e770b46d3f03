# SPDX-License-Identifier: Apache-2.0
"""Evaluation on images."""
