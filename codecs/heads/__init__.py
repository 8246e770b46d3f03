# SPDX-License-Identifier: Apache-2.0
"""Networks that read features instead of pictures, for a task."""
