"""The study: rows run and resume, the table pairs mixtures and seeds, names of rows are helped with."""

import json
from pathlib import Path

import pytest

from marssep.errors import UsageError
from marssep.evaluate.study.summary import add_rows, summarise
from marssep.evaluate.study.variants import VARIANTS, variant
from marssep.presets import load_preset


def _row(
    folder: Path, name: str, seed: int, *, gain: float, judge: float, recogniser: float, scale: float = 1.0
) -> Path:
    queries = []
    for number in range(40):
        hard = (number % 7) * 2.0
        for kind in ("text", "audio", "image", "composed"):
            queries.append({"mixture": f"{number:03d}", "kind": kind, "target": 0.0, "si_sdri": hard + gain})
        queries[-4] |= {"judge": judge, "text_similarity": judge / 2, "recogniser": recogniser, "recognised": 1.0}
    found = {"variant": name, "seed": seed, "scale": 1.0, "facts": {"test": "made"}, "queries": queries}
    found["training"] = {"cpu_seconds": 10.0, "updates": 240, "stopped": None} if name != "warm start" else {}
    path = folder / f"{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps(found))
    return path


def test_differences_are_paired_and_the_best_control_is_the_one_to_beat(tmp_path):
    files = [_row(tmp_path, "warm start", 0, gain=5.0, judge=0.5, recogniser=0.2)]
    for seed in range(3):
        shift = 0.01 * seed
        files += [
            _row(tmp_path, "supervised, equal time", seed, gain=5.1 + shift, judge=0.52, recogniser=0.2),
            _row(tmp_path, "direct", seed, gain=4.9 + shift, judge=0.55, recogniser=0.21),
            _row(tmp_path, "reinforced", seed, gain=5.3 + shift, judge=0.56, recogniser=0.22),
            _row(tmp_path, "recogniser", seed, gain=5.0 + shift, judge=0.5, recogniser=0.3),
        ]
    found = summarise(files)
    gains = found["gain_over_best_control"]
    assert gains["si_sdri"]["control"] == "supervised, equal time"
    assert gains["si_sdri"]["mean"] == pytest.approx(0.2)
    assert gains["si_sdri"]["low"] == pytest.approx(0.2) == pytest.approx(gains["si_sdri"]["high"])
    assert gains["judge"]["control"] == gains["text_similarity"]["control"] == "direct"
    assert gains["black_box"]["control"] == "reinforced"
    assert gains["black_box"]["mean"] == pytest.approx(0.08)
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["warm start"]["figures"]["si_sdri"] == pytest.approx(5.0 + sum((k % 7) * 2 for k in range(40)) / 40)
    assert rows["reinforced"]["against_start"]["si_sdri"]["mean"] == pytest.approx(0.31)
    assert rows["direct"]["against_supervised"]["si_sdri"]["mean"] == pytest.approx(-0.2)


def test_a_black_box_needs_no_default_row(tmp_path):
    files = [_row(tmp_path, "refined by gradient", 0, gain=5.0, judge=0.5, recogniser=0.2)]
    assert "gain_over_best_control" not in summarise(files)
    files += [_row(tmp_path, "refined by search", seed, gain=5.0, judge=0.5, recogniser=0.25) for seed in (0, 1)]
    gains = summarise(files)["gain_over_best_control"]
    assert gains.keys() == {"black_box"}
    assert gains["black_box"]["control"] == "refined by gradient"
    assert gains["black_box"]["mean"] == pytest.approx(0.05)


def test_the_spread_over_seeds_widens_the_interval(tmp_path):
    files = [_row(tmp_path, "warm start", 0, gain=5.0, judge=0.5, recogniser=0.2)]
    for seed, gain in enumerate((4.0, 5.0, 7.0)):
        files.append(_row(tmp_path, "reinforced", seed, gain=gain, judge=0.5, recogniser=0.2))
    gain = summarise(files)["gain_over_best_control"]["si_sdri"]
    assert gain["low"] < -0.4
    assert gain["high"] > 0.9


def test_every_row_is_a_setting_of_the_preset():
    assert len({each.name for each in VARIANTS}) == len(VARIANTS)
    for each in VARIANTS:
        load_preset("reinforce", each.changes)
    with pytest.raises(UsageError, match="did you mean 'reinforced'"):
        variant("reinforce")


def test_what_the_reward_adds_to_the_papers_settings(tmp_path):
    files = [_row(tmp_path, "paper", seed, gain=5.0 + seed, judge=0.5, recogniser=0.1) for seed in (0, 1)]
    files += [_row(tmp_path, "paper, no reward", seed, gain=4.5 + seed, judge=0.5, recogniser=0.1) for seed in (0, 1)]
    added = summarise(files)["gain_of_the_reward"]["si_sdri"]
    assert (added["row"], added["control"]) == ("paper", "paper, no reward")
    assert added["mean"] == pytest.approx(0.5)
    assert "gain_of_the_reward" not in summarise(files[:2])


def test_rows_are_added_to_a_study_with_the_same_start_only(tmp_path):
    start = _row(tmp_path, "warm start", 0, gain=5.0, judge=0.5, recogniser=0.2)
    known = summarise([start, _row(tmp_path, "direct", 0, gain=5.5, judge=0.5, recogniser=0.2)])
    later = summarise(
        [start, *(_row(tmp_path, name, 0, gain=0, judge=0.1, recogniser=0) for name in ("no-op", "direct"))]
    )
    made = add_rows(known, later)
    assert [row["name"] for row in made["rows"]] == ["no-op", "warm start", "direct"]
    assert made["rows"][1:] == known["rows"]
    assert made["rows"][0]["against_start"]["si_sdri"]["mean"] == pytest.approx(-5.0)
    assert made["rows"][0]["own_start"] == made["rows"][1]["figures"]
    other = summarise([_row(tmp_path, "warm start", 0, gain=5.1, judge=0.5, recogniser=0.2)])
    for wrong in (other, summarise([_row(tmp_path, "direct", 0, gain=5.0, judge=0.5, recogniser=0.2)])):
        with pytest.raises(UsageError, match="no warm start with nearly equal figures"):
            add_rows(known, wrong)


def test_rows_to_add_need_a_study(marssep):
    run = marssep("study", "report", "--add")
    assert run.code == 2
    assert "name its folder with --study" in run.err
