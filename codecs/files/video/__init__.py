# SPDX-License-Identifier: Apache-2.0
"""Video files: planes, times and sound in and out; groups of frames as chunks."""
