"""Benchmarks of negatives, seconds and uncertainty on a planted network."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_negatives_find_what_a_rival_gives(corpus, specs, separator_with):
    """The network lets the rival through; only the form in the logits takes it back."""
    benchmark = load("negatives")
    rows = benchmark.measure(separator_with(0.3), corpus, specs[:3])
    assert set(rows["rival"]) == {
        "none",
        *(f"embedding {a:g}" for a in (0.25, 0.5, 1)),
        *map("logits {:g}".format, benchmark.ODDS),
    }
    assert rows["rival"]["none"]["si_sdr_improvement_db"]["n"] == 6
    assert rows["rival"]["logits 0.1"]["minus_none_db"]["low"] > 0.5
    assert "| logits 0.5 |" in benchmark.markdown(
        {"lists": {"made": rows}, "default": benchmark.choose({"made": rows})}
    )


def test_uncertainty_is_measured_cell_by_cell(corpus, specs, separator_with):
    rows = load("uncertainty").measure(separator_with(0.3), corpus, specs[0])
    assert len(rows) == 2
    assert all(-1.0 <= row["cells"] <= 1.0 for row in rows)
    assert all(row["bins"][:, 0].sum() > 1000 for row in rows)


def test_seconds_are_told_apart_by_a_network_that_hears_them(corpus, specs, separator_with):
    benchmark = load("seconds")
    rows = benchmark.gather(separator_with(0.01), corpus, specs, 1, kinds=("text",))["text"]
    assert rows.queries == (3, 0)  # all three classes are in the scene, so none is absent
    assert rows.present.any()
    assert rows.paused.any()
    assert rows.weight.sum() == pytest.approx(1.0)
    told = benchmark.confidence(rows, benchmark.fit(rows))
    assert benchmark.area(told[rows.present], told[rows.paused]) > 0.9


def test_the_judge_of_seconds_knows_planted_odds():
    benchmark, rng = load("seconds"), np.random.default_rng(0)
    evidence = rng.normal(0.0, 2.0, (6000, 3))
    present = rng.random(6000) < 1 / (1 + np.exp(-evidence[:, 0]))
    paused = ~present & (rng.random(6000) < 0.5)
    rows = benchmark.Seconds(evidence, present, paused, np.arange(6000) // 100, (3, 2))
    constants = benchmark.fit(rows)
    assert constants["network"] == pytest.approx(1.0, abs=0.1)
    assert constants["share"] == pytest.approx(0.0, abs=0.06)
    judged = benchmark.judge(rows, constants)
    assert judged["expected_calibration_error"] < 0.03
    low, high = judged["area_interval"]
    assert low < judged["area"] < high
