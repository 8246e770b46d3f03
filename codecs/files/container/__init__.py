# SPDX-License-Identifier: Apache-2.0
"""The .plc file, whatever signal it holds."""
