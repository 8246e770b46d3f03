# SPDX-License-Identifier: Apache-2.0
"""Features of pictures for classifiers, as files."""
