"""What the report is made of: the table of scores read back, calibration, and recordings that encode the same twice."""

import json
from pathlib import Path

import numpy as np
import pytest

from marssep.audio import decode_audio, encode_audio
from marssep.errors import InputError
from marssep.evaluate.report import items_json, read_table
from marssep.evaluate.report.counting import box, calibration, stratum
from marssep.evaluate.report.items import Series
from marssep.evaluate.report.recordings import one_serial
from marssep.evaluate.scores import Score, write_scores

TEXT = Series(system="model", modality="text")
HEADER = "mixture,query,present,label,group,system,modality,si_sdr_improvement_db,presence,new\n"


def score(mixture: str, gain: float, *, present: bool = True, presence: float = 0.5) -> Score:
    return Score(
        mixture=mixture,
        query=0 if present else 2,
        present=present,
        label="rain, light",
        group="sound" if present else "",
        system="model",
        modality="text",
        si_sdr_improvement_db=gain,
        presence=presence,
        snr_db=gain + 2.0,
        snr_improvement_db=gain,
    )


def test_scores_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    write_scores(path, [score("a", 1.25), score("a", float("nan"), present=False), score("b", -3.0)])
    table = read_table(path)
    assert table.series == [TEXT]
    assert [row.value("si_sdr_improvement_db") for row in table.present(TEXT)] == [1.25, -3.0]
    assert [row.key for row in table.absent(TEXT)] == [("a", 2)]
    assert table.input_snr() == {("a", 0): 2.0, ("b", 0): 2.0}
    told = json.loads(items_json(table, name="list"), parse_constant=pytest.fail)
    assert [(item["mixture"], item["query"], item["present"]) for item in told["items"]] == [
        ("a", 0, True),
        ("a", 2, False),
        ("b", 0, True),
    ]
    assert told["items"][0]["label"] == "rain, light"
    assert told["items"][0]["scores"]["model/text"]["si_sdr_improvement_db"] == 1.25
    assert told["items"][1]["scores"]["model/text"]["si_sdr_improvement_db"] is None
    assert told["items"][1]["input_snr_db"] is None


def test_columns_of_later_versions_are_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(HEADER + "a,0,1,rain,sound,model,text,1.0,0.5,words\na,1,1,rain,sound,model,text,2.0,0.5,7\n")
    first, second = read_table(path).present(TEXT)
    assert np.isnan(first.value("new"))
    assert second.value("new") == 7.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixture,query\n", "has no column 'present'"),
        (HEADER, "holds no scores"),
        (HEADER + "a,0,1,rain,sound,model,text,loud,0.5,\n", r"scores\.csv:2: 'si_sdr_improvement_db' is 'loud'"),
        (HEADER + "a,0,yes,rain,sound,model,text,1,0.5,\n", "'present' 0 or 1"),
        (HEADER + "a,0,1,rain\n", "as many cells"),
        (HEADER + 2 * "a,0,1,rain,sound,model,text,1,0.5,\n", r"scores\.csv:3: a query 0 by model/text is there twice"),
    ],
)
def test_broken_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_table(path)


def test_presence_that_can_be_taken_at_its_word(tmp_path: Path) -> None:
    """Of ten queries answered with 0.75, three quarters there: no error; with 0.95 instead: 0.2 too much."""
    for stated, error in ((0.75, 0.0), (0.95, 0.2)):
        there = [score(f"p{number}", 1.0, presence=stated) for number in range(15)]
        gone = [score(f"a{number}", float("nan"), present=False, presence=stated) for number in range(5)]
        write_scores(tmp_path / "scores.csv", there + gone)
        found = calibration(read_table(tmp_path / "scores.csv"), TEXT)
        assert found is not None
        assert found.error == pytest.approx(error, abs=1e-9)
        assert found.balanced_error == pytest.approx(stated - 0.5, abs=1e-9)
        assert found.area == 0.5  # one answer to everything tells nothing
        assert (found.false_positive.tolist(), found.true_positive.tolist()) == ([0.0, 1.0], [0.0, 1.0])


def test_no_calibration_without_absent_queries_and_no_box_without_scores(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.csv", [score("a", 1.0)])
    table = read_table(tmp_path / "scores.csv")
    assert calibration(table, TEXT) is None
    assert box(table, Series(system="nobody")) is None


@pytest.mark.parametrize(("level", "low", "high"), [(-10.0, -10, -5), (-10.01, -np.inf, -10), (10.0, 10, np.inf)])
def test_strata_hold_their_lower_end(level: float, low: float, high: float) -> None:
    assert stratum(level) == (low, high)


def test_vorbis_is_the_same_twice_and_plays() -> None:
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (1, 32000)).astype(np.float32)
    first, second = (encode_audio(noise, sample_rate=32000, compression=0.5) for _ in range(2))
    fixed = one_serial(first)
    assert fixed == one_serial(second)
    # A decoder drops pages whose checksum is wrong.
    ours, theirs = decode_audio(fixed, name="ours"), decode_audio(first, name="theirs")
    np.testing.assert_array_equal(ours.waveform, theirs.waveform)
    assert ours.waveform.shape == noise.shape
