# SPDX-License-Identifier: Apache-2.0
"""What a run writes for other programs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from polycodec.train.export import write_json
from polycodec.train.log import RunLog


def strict(text: str) -> Any:
    """JSON as other readers take it, which have no NaN."""

    def refuse(word: str) -> None:
        pytest.fail(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_what_is_no_number_is_null_in_logs_and_cards(tmp_path):
    log = RunLog(tmp_path)
    log.line(1, 2, 0.5, {"loss": math.nan, "bpp": 1.5}, "")
    log.validation(1, [{"quality": 40, "psnr": math.inf}], "")
    train, validation = map(
        strict, Path(tmp_path, "log.jsonl").read_text().splitlines()
    )
    assert (train["loss"], train["bpp"]) == (None, 1.5)
    assert validation["points"] == [{"quality": 40, "psnr": None}]
    write_json(tmp_path / "card.json", {"points": [(40, -math.inf), (50, 30.5)]})
    card = strict((tmp_path / "card.json").read_text())
    assert card == {"points": [[40, None], [50, 30.5]]}
