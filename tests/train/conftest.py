# SPDX-License-Identifier: Apache-2.0
"""What tests of training share."""

from __future__ import annotations

import pytest

from polycodec.train import check

THREADS = "another number of threads"


@pytest.fixture
def every_machine():
    """Asked for by tests whose exports are tried with more threads as well."""


@pytest.fixture(autouse=True)
def exports_in_one_thread(request, monkeypatch):
    """Exports are tried with more threads only where `every_machine` is asked for.

    Two threads that share a core with others wait for it at every operation, thousands
    of times an export; and `tests/entropy_models` tries every layer with several.
    """
    if "every_machine" not in request.fixturenames:
        fewer = {k: v for k, v in check.MACHINES.items() if k != THREADS}
        monkeypatch.setattr(check, "MACHINES", fewer)
