# SPDX-License-Identifier: Apache-2.0
"""Networks that are a clip: of the frame's number, or of a small embedding of it."""
