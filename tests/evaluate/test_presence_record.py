"""The area under the ROC curve and its interval, and what `marssep report --presence` writes."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marssep.evaluate.presence_calibration import fit_platt
from marssep.evaluate.presence_record import area, area_interval
from marssep.evaluate.report.counting import Draws

_SCORES = st.lists(st.integers(0, 5), min_size=1, max_size=12)


@given(_SCORES, _SCORES)
def test_the_area_is_the_share_of_pairs_in_order(present, absent):
    pairs = [(p > a) + 0.5 * (p == a) for p in present for a in absent]
    assert area(np.array(present, float), np.array(absent, float)) == pytest.approx(np.mean(pairs))


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """Normal scores a standard deviation apart have the area 0.760."""
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        present, absent = rng.normal(1.0, 1.0, 80), rng.normal(0.0, 1.0, 80)
        names = [str(index) for index in range(80)]
        low, high = area_interval(present, absent, (names, names), Draws(resamples=200, seed=seed))
        held += low <= 0.7602 <= high
    assert held >= 52


def test_queries_of_one_mixture_are_drawn_together():
    """Ten copies of ten mixtures say no more than the ten."""
    rng = np.random.default_rng(0)
    present, absent = rng.normal(1.0, 1.0, 10), rng.normal(0.0, 1.0, 10)
    names = [str(index) for index in range(10)]
    once = area_interval(present, absent, (names, names), Draws(resamples=500))
    copies = area_interval(np.tile(present, 10), np.tile(absent, 10), (names * 10, names * 10), Draws(resamples=500))
    assert copies == pytest.approx(once, abs=1e-9)


def _write_run(folder, *, sha256="1", presence=(0.9, 0.3, 0.5, 0.5)):
    """Scores as 'marssep evaluate' writes them, with presence that ranks 2 of 4 pairs right."""
    from marssep.evaluate.results import ListRecord, ModelRecord, Results
    from marssep.evaluate.scores import Score, write_scores

    queries = [("a", 0, True), ("a", 1, True), ("b", 0, False), ("b", 1, False)]
    rows = [(*query, value) for query, value in zip(queries, presence, strict=True)]
    scores = [
        Score(
            mixture=mixture, query=query, present=present, label="dog", group="sound", system="model", modality="text",
            presence=presence, si_sdr_improvement_db=1.0 if present else float("nan"),
        )
        for mixture, query, present, presence in rows
    ]  # fmt: skip
    write_scores(folder / "scores.csv", scores)
    model = ModelRecord(name="tiny", sha256="0", architecture="film_unet", parameters=1, encoder="tiny")
    results = Results(
        mixtures=ListRecord(name="made", sha256=sha256, n_mixtures=2, n_present=2, n_absent=2),
        model=model, models=[model], settings={"presence_threshold": 0.4}, versions={"marssep": "0"},
        date="2026-01-01", wall_seconds=1.0, systems=[], paired=[], presence=[], classes=[],
    )  # fmt: skip
    results.write(folder / "results.json")


def test_the_command_writes_the_record(marssep, tmp_path):
    _write_run(tmp_path)
    ran = marssep("report", tmp_path, "--presence", tmp_path / "presence.json")
    assert ran.code == 0, ran.err
    record = json.loads((tmp_path / "presence.json").read_text())
    row = record["queries"]["text"]
    assert (row["n_present"], row["n_absent"], row["area"]) == (2, 2, 0.5)
    assert row["present_accepted"][0] == 0.5
    assert row["absent_rejected"][0] == 0.0
    assert row["brier"] == pytest.approx((0.01 + 0.49 + 0.25 + 0.25) / 4)
    assert sum(step["queries"] for step in row["reliability"]) == 4
    assert row["roc"][0] == [0.0, 0.5]
    assert row["roc"][-1] == [1.0, 1.0]
    assert "ROC area 0.500" in ran.out


def test_platt_finds_a_planted_distortion():
    rng = np.random.default_rng(0)
    logit = rng.normal(0.0, 2.0, 40000)
    truth = rng.random(40000) < 1 / (1 + np.exp(-logit))
    told = 1 / (1 + np.exp(-(2.0 * logit + 1.0)))  # too sure, and too hopeful
    scaling = fit_platt(told, truth)
    assert scaling.slope == pytest.approx(0.5, abs=0.03)
    assert scaling.offset == pytest.approx(-0.5, abs=0.06)
    assert np.abs(scaling(told) - 1 / (1 + np.exp(-logit))).max() < 0.03
    rare = truth & (rng.random(40000) < 0.1) | ~truth  # few present queries weigh as much as many absent ones
    assert fit_platt(told[rare], truth[rare]).offset == pytest.approx(-0.5, abs=0.15)


def test_the_record_of_a_calibration(marssep, tmp_path):
    for name, sha256, presence in (("val", "2", (0.9, 0.8, 0.7, 0.85)), ("test", "1", (0.95, 0.8, 0.6, 0.9))):
        (tmp_path / name).mkdir()
        _write_run(tmp_path / name, sha256=sha256, presence=presence)
    output = tmp_path / "presence.json"
    ran = marssep("report", tmp_path / "test", "--presence", output, "--calibrate", tmp_path / "val")
    assert ran.code == 0, ran.err
    row = json.loads(output.read_text())["calibration"]["queries"]["text"]
    before, after = row["brier"]
    assert before == pytest.approx((0.05**2 + 0.2**2 + 0.6**2 + 0.9**2) / 4, abs=1e-4)
    assert row["brier_change"][0] == pytest.approx(after - before, abs=1e-4)
    ran = marssep("report", tmp_path / "test", "--presence", output, "--calibrate", tmp_path / "test")
    assert ran.code == 1
    assert "another list" in ran.err
    assert marssep("report", tmp_path / "test", "--calibrate", tmp_path / "val").code == 2


def test_several_lists_of_one_model_count_together(marssep, tmp_path):
    for name, sha256, presence in (("two", "1", (0.9, 0.8, 0.1, 0.2)), ("three", "2", (0.6, 0.3, 0.5, 0.05))):
        (tmp_path / name).mkdir()
        _write_run(tmp_path / name, sha256=sha256, presence=presence)
    output = tmp_path / "presence.json"
    runs = (tmp_path / "two", tmp_path / "three")
    ran = marssep("report", *runs, "--presence", output)
    assert ran.code == 2
    assert "two of the runs are of one list" in ran.err
    results = json.loads((tmp_path / "three" / "results.json").read_text())
    results["mixtures"]["name"] = "other"
    (tmp_path / "three" / "results.json").write_text(json.dumps(results))
    ran = marssep("report", *runs, "--presence", output)
    assert ran.code == 0, ran.err
    record = json.loads(output.read_text())
    assert record["queries"]["text"]["area"] == 1.0
    (further,) = record["further"]
    assert (further["mixtures"]["name"], further["queries"]["text"]["area"]) == ("other", 0.75)
    row = record["together"]["text"]
    assert (row["n_present"], row["n_absent"]) == (4, 4)
    assert row["area"] == pytest.approx(15 / 16)
    assert "ROC area 0.938" in ran.out
    results["settings"]["presence_threshold"] = 0.5
    (tmp_path / "three" / "results.json").write_text(json.dumps(results))
    ran = marssep("report", *runs, "--presence", output)
    assert ran.code == 2
    assert "another model or threshold" in ran.err
    assert marssep("report", *runs, "--html", tmp_path / "out.html").code == 2
