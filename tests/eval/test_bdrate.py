# SPDX-License-Identifier: Apache-2.0
"""BD-rate against known figures, published curves, the labels beside curves."""

from __future__ import annotations

import json
import math
import pathlib

import pytest

pytest.importorskip("bjontegaard", reason="needs the eval extra")
pytest.importorskip("matplotlib", reason="needs the eval extra")

from polycodec.errors import InputError, UnknownNameError
from polycodec.eval import bdrate, curves
from polycodec.eval.image.kind import read_curves
from polycodec.eval.page import plots

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared"
ANCHOR_FILE = SHARED / "anchors" / "kodak.json"

RATES = [0.1, 0.2, 0.4, 0.8, 1.6]
QUALITIES = [28.0, 30.5, 33.0, 35.5, 38.0]


def test_bd_rate_of_a_scaled_curve_is_the_scale():
    found = bdrate.compare(RATES, QUALITIES, [0.8 * r for r in RATES], QUALITIES)
    assert found.rate_akima == pytest.approx(-20, abs=1e-6)
    assert found.rate_pchip == pytest.approx(-20, abs=1e-6)
    # A curve of 2.5 dB an octave: 20 % of rate are 2.5 log2(1 / 0.8) dB.
    assert found.quality_akima == pytest.approx(2.5 * math.log2(1.25), abs=1e-6)
    assert found.overlap == (28.0, 38.0)
    assert found.below_everywhere
    assert all(p.rate_percent == pytest.approx(-20, abs=1e-6) for p in found.parts)


def test_a_crossing_is_shown_part_by_part():
    crossing = [28.5, 30.7, 33.0, 35.3, 37.5]
    found = bdrate.compare(RATES, QUALITIES, RATES, crossing)
    assert found.parts[0].rate_percent < 0 < found.parts[-1].rate_percent
    assert not found.below_everywhere
    assert found.share_anchor == pytest.approx(0.9)
    assert found.share_test == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("rates", "qualities", "said"),
    [
        (RATES[:3], QUALITIES[:3], "needs 4"),
        (RATES, [q + 20 for q in QUALITIES], "no common quality"),
        (RATES, [28, 30, 29, 31, 33], "does not rise"),
        ([0.0, *RATES[1:]], QUALITIES, "positive rates"),
        ([0.1, 0.1, 0.4, 0.8, 1.6], QUALITIES, "same rate"),
        (RATES, [*QUALITIES[:4], math.nan], "not finite"),
    ],
)
def test_unfit_curves_give_nan_and_a_reason(rates, qualities, said):
    found = bdrate.compare(RATES, QUALITIES, rates, qualities)
    assert math.isnan(found.rate_akima) and math.isnan(found.rate_pchip)
    assert said in found.reason
    assert not found.below_everywhere


@pytest.mark.skipif(not ANCHOR_FILE.is_file(), reason="no published curves here")
def test_bd_rates_agree_with_published_ones():
    """The file's own PCHIP figures against VTM 9.1, by PSNR and by MS-SSIM."""
    content = json.loads(ANCHOR_FILE.read_text())
    entries = {e["id"]: e for e in content["kodak"]}
    ids = [i for i, e in entries.items() if e.get("bd_rate_vs_vtm91_pct")]
    read = {c.name: c for c in read_curves(content, "kodak", ids)}
    vtm = read_curves(content, "kodak", ["vtm"])[0]
    compared = 0
    for id_, curve in read.items():
        stated = entries[id_]["bd_rate_vs_vtm91_pct"]
        for metric, key in (
            ("psnr", "psnr_pchip"),
            ("ms_ssim_db", "msssim_db_pchip"),
        ):
            found = bdrate.compare(*vtm.values(metric), *curve.values(metric))
            if key in stated and found.reason is None:
                compared += 1
                assert found.rate_pchip == pytest.approx(stated[key], abs=0.01), id_
    assert compared > 100


def test_labels_are_moved_apart_as_little_as_possible():
    assert plots.apart([0.2, 0.6], 0.1) == pytest.approx([0.2, 0.6])
    assert plots.apart([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
    crowded = plots.apart([0.97, 0.98, 0.99], 0.1)
    assert crowded == pytest.approx([0.8, 0.9, 1.0])


def test_long_names_are_cut_where_they_may_be():
    assert plots.short("VTM (VVC), version 9.1, YCbCr 4:4:4") == (
        "VTM (VVC), version 9.1"
    )
    assert plots.short("A codec with a name (that never quite ends)") == (
        "A codec with a name"
    )


def test_published_curves_are_checked(tmp_path):
    path = tmp_path / "curves.json"
    path.write_text(json.dumps({"kodak": [{"id": "a", "bpp": [1, 2], "psnr": [30]}]}))

    def read(ids=None):
        return curves.published(path, lambda data: read_curves(data, "kodak", ids), "x")

    with pytest.raises(InputError, match="shorter"):
        read()
    with pytest.raises(UnknownNameError, match="nearest"):
        read(["b"])
    path.write_text("not json")
    with pytest.raises(InputError, match="cannot read"):
        read()
