# SPDX-License-Identifier: Apache-2.0
"""Training on pictures of classes."""
