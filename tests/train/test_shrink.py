# SPDX-License-Identifier: Apache-2.0
"""Shrinking weights: goals are met, losses are measured, allocation is the best one."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from polycodec.cli.main import main
from polycodec.codecs import stored
from polycodec.codecs.quantizers.weights.allocation import (
    Priced,
    priced,
    to_loss,
    to_size,
)
from polycodec.codecs.quantizers.weights.base import Choice
from polycodec.errors import CodecError, InputError, ModelError, UsageError
from polycodec.train.shrink.run import panel_in, shrink
from polycodec.train.shrink.score import Score, score
from polycodec.train.shrink.shrinker import Goal, Shrinker


def menu_of(seed: int) -> dict[str, list[Priced]]:
    """Three tensors that harm differently, each at a few rates."""
    rng = np.random.default_rng(seed)
    return {
        name: priced(rng.standard_normal((8, 32)), weight, 1e9)[::6]
        for name, weight in (("a", 1e-4), ("b", 1.0), ("c", 0.03))
    }


@pytest.mark.parametrize("seed", range(3))
def test_allocation_is_on_the_hull_of_all_combinations(seed):
    menu = menu_of(seed)
    every = [
        (sum(o.bytes for o in found), sum(o.loss for o in found))
        for found in itertools.product(*menu.values())
    ]
    found = to_size(menu, 250).values()
    size, loss = sum(o.bytes for o in found), sum(o.loss for o in found)
    assert size <= 250
    # No combination is below the line that a Lagrangian's solution lies on.
    better = [s for s, lost in every if lost < loss * 0.999]
    assert min(better) > size
    assert sum(o.loss for o in to_loss(menu, loss * 1.001).values()) <= loss * 1.001


def test_what_harms_more_is_kept_better():
    found = to_size(menu_of(0), 250)
    assert found["b"].bytes > 1.5 * found["a"].bytes


def scored(bits: list[float], quality: list[float]) -> Score:
    """A score of one signal."""
    return Score(np.array(bits)[:, None], np.array(quality)[:, None])


def test_bits_count_as_what_they_would_buy():
    before = scored([1000.0, 2000.0], [30.0, 34.0])
    more = scored([1010.0, 2020.0], [30.0, 34.0])
    assert before.loss(before) == before.doubt(before) == 0
    slope = 4 / np.log(2)
    assert before.loss(more) == pytest.approx(slope * np.log(1.01))
    found = before.report(scored([1000.0, 2000.0], [29.9, 33.9]))
    assert found == pytest.approx({"quality": 0.1, "percent_bits": 0.0, "loss": 0.1})


def test_what_signals_disagree_on_is_doubted():
    bits, quality = np.full((2, 3), 8.0), np.zeros((2, 3))
    bits[1] *= 2
    gone = np.array([[0.1, 0.2, 0.6]] * 2)
    before, after = Score(bits, quality), Score(bits, quality - gone)
    assert before.loss(after) == pytest.approx(0.3)
    assert before.doubt(after) == pytest.approx(0.07**0.5 / 3**0.5)
    gone[0, 2] = np.nan  # PESQ finds no speech there
    after = Score(bits, quality - gone)
    assert before.loss(after) == pytest.approx(0.15)
    assert before.doubt(after) == pytest.approx(0.05)
    assert before.report(after)["quality"] == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "none"),
        ({"bits": 3.0, "size": 4}, "3 and 4"),
        ({"bits": 0.0}, "0"),
        ({"max_loss": float("nan")}, "nan"),
    ],
)
def test_goals_are_one_number_above_zero(given, found):
    with pytest.raises(UsageError, match=f"one of .*; found {found};"):
        Goal(**given)


def test_a_size_is_met_and_the_card_says_what_was_lost(
    tiny_checkpoint, training_images, tmp_path, capsys
):
    size = tiny_checkpoint.stat().st_size * 3 // 4
    with pytest.raises(SystemExit) as ended:
        main(
            [
                *("shrink", str(tiny_checkpoint), "-o", str(tmp_path), "--size"),
                *(str(size), "--data", str(training_images)),
                *("--name", "image/small", "--json"),
            ]
        )
    assert ended.value.code == 0
    card = json.loads(capsys.readouterr().out)
    path = tmp_path / "codec.safetensors"
    assert path.stat().st_size == card["bytes"] <= size
    assert card["digest"] == stored.digest_of(path).hex()
    assert path.stat().st_mode == path.with_suffix(".json").stat().st_mode
    assert card["name"] == "image/small" and card["modality"] == "image"
    about = card["shrunk"]
    assert {"quality", "unit", "percent_bits", "loss"} <= set(about)
    assert about["from"] == stored.digest_of(tiny_checkpoint).hex()
    assert all(row["used"] <= 1 for row in card["certificate"])


def test_without_data_bits_are_met_and_a_loss_is_refused(tiny_checkpoint, tmp_path):
    # An untrained codec's numbers are too few to be small beside tables and header.
    card = shrink(tiny_checkpoint, tmp_path, Goal(bits=36))
    assert card["shrunk"]["bits"] <= 36 and "loss" not in card["shrunk"]
    with pytest.raises(UsageError, match="--data"):
        shrink(tiny_checkpoint, tmp_path / "lost", Goal(max_loss=0.1))


def test_a_size_that_cannot_be_met_is_named(tiny_checkpoint, tmp_path):
    shrinker = Shrinker(tiny_checkpoint, None, lambda text: None)
    shrinker.menu = dict  # nothing is offered, and all is kept as it is
    with pytest.raises(ModelError, match="do not fit 100 bytes"):
        shrinker.write(tmp_path / "a.safetensors", Goal(size=100))


def test_a_loss_is_met_by_a_file_as_it_is_read_back(
    tiny_checkpoint, training_images, tmp_path
):
    said: list[str] = []
    panel = panel_in(training_images, tiny_checkpoint, str(tmp_path), said.append)
    panel = panel.at_two().brief(2, 64 * 64)
    assert [x.shape for x in panel.signals] == [(1, 3, 128, 32)] * 2
    shrinker, part = Shrinker(tiny_checkpoint, panel, said.append), tmp_path / "a"
    about = shrinker.write(part, Goal(max_loss=0.5))
    after = score(stored.load_codec(part), panel, shrinker.levels)
    assert about["loss"] == pytest.approx(shrinker.before.loss(after), abs=1e-4)
    assert about["loss"] <= 0.5 and about["unit"] == "dB"
    assert about["bytes"] == part.stat().st_size < tiny_checkpoint.stat().st_size


@pytest.mark.parametrize("factor", [0.2, 4.0])
def test_what_a_loss_was_expected_to_be_is_corrected(factor, tmp_path):
    class Pretended(Shrinker):
        """Loses ``factor`` times what its menu says."""

        def __init__(self) -> None:
            self.say = lambda text: None

        def _pack(self, part, plan):
            self.plan = plan.values()
            part.write_bytes(bytes(round(sum(one.bytes for one in self.plan))))

        def _lost(self, part):
            return {"loss": factor * sum(one.loss for one in self.plan)}

    shrinker, goal = Pretended(), 0.01
    shrinker._to_loss(tmp_path / "a", menu_of(0), goal)
    assert 0.4 * goal < shrinker._lost(tmp_path)["loss"] <= goal
    shrinker.plan = to_loss(menu_of(0), goal).values()
    assert not 0.4 * goal < shrinker._lost(tmp_path)["loss"] <= goal


@pytest.mark.parametrize("goal", ["size", "loss"])
def test_a_goal_between_two_plans_is_met_by_the_finer_or_smaller(goal, tmp_path):
    offers = [Priced(Choice("none", k), *of) for k, of in enumerate([(90, 1), (10, 8)])]

    class Pretended(Shrinker):
        """Thirteen bytes more than its plans have, and half again as much lost."""

        def __init__(self) -> None:
            self.say = lambda text: None

        def _pack(self, part, plan):
            self.plan = plan["a"]
            part.write_bytes(bytes(round(self.plan.bytes) + 13))

        def _lost(self, part):
            return {"loss": 1.5 * self.plan.loss}

    shrinker, part = Pretended(), tmp_path / "a"
    if goal == "size":
        shrinker._to_size(part, {"a": offers}, 102)
        assert shrinker.plan.bytes == 10
    else:
        shrinker._to_loss(part, {"a": offers}, 11)
        assert shrinker.plan.bytes == 90


def test_a_difference_from_the_same_weights_is_nearly_nothing(
    tiny_checkpoint, tmp_path, monkeypatch
):
    from polycodec.codecs import zoo

    monkeypatch.setattr(zoo, "weights_of", lambda name: tiny_checkpoint)
    card = shrink(tiny_checkpoint, tmp_path, Goal(bits=6, base="image/base"))
    plain = stored.read_weights(tiny_checkpoint)[2]
    back = stored.read_weights(tmp_path / "codec.safetensors")[2]
    assert card["shrunk"]["bits"] <= 6
    assert all((back[k].double() == v.double()).all() for k, v in plain.items())


def test_a_base_of_another_kind_is_refused_and_so_is_one_without_weights(
    tiny_checkpoint, tmp_path
):
    for base, word in (
        ("speech/live", "fine-tuned from; name that one"),
        ("speech/siren", "fitted to each signal"),
        ("speech/sirene", "nearest: speech/"),
    ):
        with pytest.raises(CodecError, match=word):
            shrink(tiny_checkpoint, tmp_path, Goal(bits=36, base=base))
    assert not list(tmp_path.iterdir())


def test_weights_that_are_there_are_replaced_when_asked_only(tiny_checkpoint, tmp_path):
    first = shrink(tiny_checkpoint, tmp_path, Goal(bits=36))["digest"]
    with pytest.raises(InputError, match="--force"):
        shrink(tiny_checkpoint, tmp_path, Goal(bits=20))
    assert stored.digest_of(tmp_path / "codec.safetensors").hex() == first
    (tmp_path / "codec.json").unlink()
    assert shrink(tiny_checkpoint, tmp_path, Goal(bits=36), force=True)["name"]
    assert (tmp_path / "codec.json").is_file()
    with pytest.raises(UsageError, match="is a file; expected a folder"):
        shrink(tiny_checkpoint, tmp_path / "codec.json", Goal(bits=20))


def test_a_base_of_other_sizes_is_named(tiny_checkpoint, tmp_path, monkeypatch):
    shrinker = Shrinker(tiny_checkpoint, None, lambda text: None)
    monkeypatch.setattr(shrinker, "guessed", lambda name, found: found[name][:1])
    with pytest.raises(ModelError, match="name a base of the same config"):
        shrinker.menu()


def test_weights_are_not_packed_onto_themselves(tiny_checkpoint):
    before = tiny_checkpoint.read_bytes()
    with pytest.raises(UsageError, match="name another folder"):
        shrink(tiny_checkpoint, tiny_checkpoint.parent, Goal(bits=36))
    assert tiny_checkpoint.read_bytes() == before
