# SPDX-License-Identifier: Apache-2.0
"""The command schema: what a training config may hold, for editors."""

from __future__ import annotations

import json


def schema() -> None:
    """Print the JSON schema of a training config, for editors."""
    from polycodec.train.schema import json_schema

    print(json.dumps(json_schema(), indent=2))
