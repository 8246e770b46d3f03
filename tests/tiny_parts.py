# SPDX-License-Identifier: Apache-2.0
"""Every registered part, small enough for a test.

A part that is not listed is built as it comes, so that a newly registered one meets the
contracts of its class without a line here.
"""

from __future__ import annotations

import tiny_speech  # noqa: F401  what tests register is tested too
import torch

from polycodec.registry import build, names

_HYPER = {"hyper": 8, "features": 8, "hidden": 8}
TINY: dict[str, dict] = {
    "transform/residual": {
        "widths": [8, 12],
        "analysis_depths": [1, 1, 1],
        "synthesis_depths": [1, 1, 1],
    },
    "transform/conv": {"width": 8},
    "transform/mixing": {"width": 8},
    "transform/attention": {"depth": 1},
    "transform/vqgan": {"width": 4, "multiples": [1, 1, 2, 2, 2], "depth": 1},
    "transform/swin": {
        "width": 8,
        "heads": [2, 2, 4],
        "growth": 4,
        "dense": 8,
        "drop": 0.0,
    },
    "transform/spectral": {"widths": [16, 16], "depths": [1, 2]},
    "transform/seanet": {"width": 4},
    "transform/live": {
        "widths": [16, 16],
        "depths": [1, 2],
        "hidden": [24, 24],
        "drop": 1.0,
    },
    "transform/pqmf": {"widths": [8, 16, 16]},
    "entropy/hyperprior": _HYPER,
    "entropy/checkerboard": _HYPER,
    "entropy/channel": {**_HYPER, "groups": 3},
    "entropy/context": {**_HYPER, "slices": [2, 4, 6], "kernels": [5, 3, 3]},
    "entropy/sliced": {
        "hyper": 8,
        "features": 8,
        "slices": [4, 8],
        "parameters": [8],
        "references": [
            {"name": "near", "width": 8},
            {"name": "channels", "widths": [8, 8]},
            {"name": "checkerboard", "width": 8},
            {"name": "local", "width": 8},
            {"name": "inter", "width": 8, "inner": 8},
            {"name": "intra", "width": 8, "inner": 8},
            {"name": "guided", "width": 8, "inner": 8},
            {"name": "adaptive-channels", "width": 8},
            {"name": "adaptive-inter", "width": 8, "inner": 4, "head": 4, "reads": 3},
        ],
    },
    "entropy/autoregressive": {"groups": 3, "frames": 3, "hidden": 24, "width": 16},
    "entropy/tokens-adaptive": {"width": 8, "hidden": 32, "columns": 2},
    "entropy/tokens-conditional": {"width": 8},
    "entropy/tokens-transformer": {
        "width": 8,
        "channels": 32,
        "heads": 2,
        "window": 16,
    },
    "quantizer/residual": {"levels": 3, "codes": 16},
    "quantizer/structural": {"levels": 2, "codes": [16, 9], "frames": 600},
    "quantizer/factorized": {"levels": 3, "codes": [16, 5, 16], "width": 4},
    "quantizer/balanced": {"levels": 3, "codes": [16, 5, 16], "width": 4},
    "quantizer/finite": {"levels": 3, "radix": [5, 3, 4]},
    "quantizer/latent": {"dimensions": 6, "values": 5},
    "quantizer/granular": {"codes": 16, "steps": 9},
    "quantizer/cascade": {"codes": [16, 8, 5], "depth": 1},
}
# Further options under which a part must keep its contract.
VARIANTS: list[tuple[str, dict]] = [
    ("transform/conv", {"scaled": False}),
    ("transform/conv", {"shortcut": True}),
    ("transform/residual", {"shortcut": True}),
    ("transform/mixing", {"blocks": "residual"}),
    ("transform/mixing", {"shortcut": True}),
    ("transform/swin", {"growth": 0, "depths": [1, 1, 2], "shortcut": True}),
    ("transform/spectral", {"causal": True}),
    ("transform/live", {"ahead": 0, "taps": [3, 2]}),
    ("quantizer/cascade", {"running": True}),
    ("transform/seanet", {"causal": False}),
    ("transform/seanet", {"ratios": (3, 5, 7), "causal": True}),
    ("transform/seanet", {"lstm": 1}),
    ("entropy/sliced", {"prior": {"name": "mixture", "components": 2}}),
    ("entropy/sliced", {"prior": "shaped", "residual": [8]}),
    ("entropy/sliced", {"residual": [8], "passes": 1}),
    (
        "entropy/sliced",
        {"synthesis": [8, 8, 12, 12, 8], "residual": [8], "side": 4},
    ),
    ("transform/pqmf", {"norm": "group"}),
]


def tiny(name: str, **options):
    """Build a part with its tiny options; ``options`` go before them."""
    torch.manual_seed(0)
    return build(name, **{**TINY.get(name, {}), **options})


def section(kind: str, name: str) -> dict:
    """The section of a config that names a part and makes it tiny."""
    return {"name": name, **TINY.get(f"{kind}/{name}", {})}


def cascade() -> dict:
    """The section ``codec`` of a config: a cascade of codebooks, tiny."""
    return {
        "name": "token",
        "signal": "image",
        "channels": 12,
        "transform": section("transform", "attention"),
        "quantizer": section("quantizer", "cascade"),
        "entropy": {"name": "tokens-static"},
    }


def cases(pattern: str) -> list[tuple[str, dict]]:
    """Names that match with their variants, for `pytest.mark.parametrize`."""
    wanted = names(pattern)
    return [(n, {}) for n in wanted] + [v for v in VARIANTS if v[0] in wanted]


def case_id(case: object) -> str:
    """The name of a case."""
    name, options = case if isinstance(case, tuple) else (case, {})
    return "-".join([str(name).partition("/")[2], *map(str, options)])


def shaken(part: torch.nn.Module) -> torch.nn.Module:
    """Add noise to all weights, so that every path of ``part`` carries something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in part.parameters():
            noise = torch.randn(value.shape, generator=generator)
            value.add_(0.2 * noise if value.ndim > 1 else 0.02 * noise)
    return part.eval()
