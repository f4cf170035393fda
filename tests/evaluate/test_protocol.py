"""The protocol measures what was planted, pairs and gates as written, and repeats itself."""

import csv
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from marssep.corpus.lists import write_list
from marssep.corpus.mixing import MixtureSpec
from marssep.corpus.store import Corpus
from marssep.errors import CorpusError, InputError, OutputError, UsageError
from marssep.evaluate import EvaluateSettings, Report, choose_from_scores, evaluate, markdown, read_results
from marssep.separate import Separator

FULL = EvaluateSettings(resamples=200, bss_mixtures=1, baselines=("mixture", "oracle_grid", "oracle_stft"))
QUICK = FULL.model_copy(update={"bss_mixtures": 0})
TEXT = QUICK.model_copy(update={"modalities": ("text",), "baselines": ("mixture",)})
Build = Callable[..., Separator]


@pytest.fixture(scope="module")
def report(separator_with: Build, corpus: Corpus, specs: list[MixtureSpec]) -> Report:
    return evaluate(separator_with(0.1), corpus, mixtures=specs, settings=FULL, model_name="bands")


def test_a_planted_improvement_is_measured(report: Report) -> None:
    for modality in QUICK.modalities:
        row = report.results.row("model", modality)
        assert row is not None
        figure = row.si_sdr_improvement_db
        assert (figure.n, figure.n_mixtures) == (12, 6)
        assert figure.mean == pytest.approx(20.0, rel=0.05)
        assert figure.low <= figure.mean <= figure.high
        assert figure.median == pytest.approx(20.0, rel=0.05)


def test_half_the_leakage_is_six_decibels_more(separator_with: Build, corpus: Corpus, specs: list[MixtureSpec]) -> None:
    means = []
    for leakage in (0.2, 0.1):
        made = evaluate(separator_with(leakage), corpus, mixtures=specs, settings=TEXT)
        row = made.results.row("model", "text")
        assert row is not None
        means.append(row.si_sdr_improvement_db.mean)
    assert means[1] - means[0] == pytest.approx(6.0, rel=0.05)


def test_baselines(report: Report) -> None:
    nothing, grid, stft = (report.results.row(name) for name in ("mixture", "oracle_grid", "oracle_stft"))
    assert nothing is not None
    assert nothing.si_sdr_improvement_db.mean == 0.0
    assert nothing.snr_improvement_db.mean == 0.0
    assert nothing.snr_db.mean == pytest.approx(0.0, abs=0.05)  # levels of a pair are each other's opposite
    assert stft.si_sdr_improvement_db.mean > 40.0  # these bands do not overlap at all
    assert grid.si_sdr_improvement_db.mean > 40.0
    assert nothing.modality is None


def test_groups_are_those_of_the_source(report: Report) -> None:
    by_group = {
        group: report.results.row("model", "text", group=group).si_sdr_improvement_db.n
        for group in ("instrument", "speech", "sound", "all")
    }
    assert by_group == {"instrument": 4, "speech": 4, "sound": 4, "all": 12}
    assert {row.label for row in report.results.classes} == {"drone", "chatter", "hiss"}


def test_bss_eval_runs_on_part_of_the_list_and_its_sdr_is_the_snr(report: Report) -> None:
    row = report.results.row("model", "text")
    assert row.bss.n == 2
    assert row.bss.largest_difference_to_snr_db < 1e-5
    assert row.bss.sir_db > 15.0


def test_differences_are_paired_by_query(report: Report, specs: list[MixtureSpec]) -> None:
    assert [(row.modality, row.baseline) for row in report.results.paired] == [
        ("audio", "text"),
        ("image", "text"),
        ("composed", "text"),
    ]
    for row in report.results.paired:
        assert row.difference_db.n == 12
        assert row.difference_db.mean == pytest.approx(0.0, abs=1e-6)  # this encoder puts all modalities in one place


def test_a_query_without_a_picture_is_left_out_of_image_and_pairs(
    separator_with: Build, corpus: Corpus, specs: list[MixtureSpec]
) -> None:
    bare = dataclasses.replace(specs[0].queries[0], image=None)
    textual = dataclasses.replace(specs[0].queries[1], image=None, audio=None)
    changed = [dataclasses.replace(specs[0], queries=(bare, textual)), *specs[1:]]
    made = evaluate(separator_with(0.1), corpus, mixtures=changed, settings=QUICK).results
    counts = {modality: made.row("model", modality).si_sdr_improvement_db.n for modality in QUICK.modalities}
    assert counts == {"text": 12, "audio": 11, "image": 10, "composed": 11}
    assert {row.modality: row.difference_db.n for row in made.paired} == {"audio": 11, "image": 10, "composed": 11}


def test_absent_sounds_are_suppressed_by_the_mask(report: Report) -> None:
    text = report.results.presence[0]
    assert text.modality == "text"
    assert text.absent_suppressed_by_mask.n == 6
    assert text.absent_suppressed_by_mask.mean == 1.0  # a leakage of 0.1 is 20 dB below the mixture
    assert text.area == 1.0
    assert text.absent_rejected.mean == 1.0
    assert text.present_rejected.mean == 0.0
    assert text.kept.mean == 1.0
    assert text.absent_suppressed.low < 1.0  # six of six is no certainty


def test_absent_sounds_are_suppressed_by_the_gate_alone(
    separator_with: Build, corpus: Corpus, specs: list[MixtureSpec]
) -> None:
    text = evaluate(separator_with(0.5), corpus, mixtures=specs, settings=TEXT).results.presence[0]
    assert text.absent_suppressed_by_mask.mean == 0.0  # 6 dB
    assert text.absent_suppressed.mean == 1.0


def test_a_gate_that_rejects_everything_keeps_nothing(
    separator_with: Build, corpus: Corpus, specs: list[MixtureSpec]
) -> None:
    made = evaluate(separator_with(0.1, deaf=True, threshold=0.9), corpus, mixtures=specs, settings=TEXT).results
    text = made.presence[0]
    assert (text.absent_suppressed.mean, text.present_rejected.mean, text.kept.mean) == (1.0, 1.0, 0.0)
    assert text.area == 0.5
    assert made.row("model_gated", "text").si_sdr_improvement_db.mean == 0.0
    # the mask is as good as ever: without the rule of min(SI-SDRi, 0) this gate would have looked free
    assert made.row("model", "text").si_sdr_improvement_db.mean == pytest.approx(20.0, rel=0.05)


def test_a_threshold_is_chosen_from_the_scores(separator_with: Build, corpus: Corpus, specs: list[MixtureSpec]) -> None:
    made = evaluate(separator_with(0.5, threshold=0.0), corpus, mixtures=specs, settings=TEXT)
    choice = choose_from_scores(made.scores)
    assert choice.meets_goals
    assert (choice.n_present, choice.n_absent, choice.rejected, choice.kept) == (12, 6, 1.0, 1.0)
    gated = evaluate(separator_with(0.5, threshold=choice.threshold), corpus, mixtures=specs, settings=TEXT)
    assert gated.results.presence[0].absent_suppressed.mean == 1.0
    deaf = evaluate(separator_with(0.1, deaf=True), corpus, mixtures=specs, settings=TEXT)
    assert choose_from_scores(deaf.scores).rejected == 1.0  # the mask does it: no gate is needed
    assert choose_from_scores(deaf.scores).kept == 1.0
    with pytest.raises(UsageError, match="by audio: the list has 0 and 0"):
        choose_from_scores(made.scores, modality="audio")


def test_the_threshold_of_the_settings_overrides_the_models(
    separator_with: Build, corpus: Corpus, specs: list[MixtureSpec]
) -> None:
    settings = TEXT.model_copy(update={"presence_threshold": 0.0})
    text = evaluate(separator_with(0.5, threshold=1.0), corpus, mixtures=specs, settings=settings).results.presence[0]
    assert (text.threshold, text.absent_rejected.mean, text.kept.mean) == (0.0, 0.0, 1.0)


def test_two_runs_and_two_jobs_give_equal_figures(
    report: Report, separator_with: Build, corpus: Corpus, specs: list[MixtureSpec]
) -> None:
    settings = FULL.model_copy(update={"jobs": 2})
    again = evaluate(separator_with(0.1), corpus, mixtures=specs, settings=settings, model_name="bands")
    assert again.results.figures() == report.results.figures()
    assert [str(score) for score in again.scores] == [str(score) for score in report.scores]


def test_progress_is_told(separator_with: Build, corpus: Corpus, specs: list[MixtureSpec]) -> None:
    seen: list[tuple[str, int, int]] = []
    evaluate(separator_with(0.1), corpus, mixtures=specs, settings=QUICK, progress=lambda *what: seen.append(what))
    assert seen[8] == ("queries", 9, 12)  # 3 texts, 6 recordings, 3 pictures: each embedded once
    assert seen[-1] == ("mixtures", 6, 6)


def test_what_is_written(report: Report, tmp_path: Path) -> None:
    path = report.write(tmp_path / "results", run_folder=tmp_path / "run")
    assert path == tmp_path / "results" / "mixtures.json"
    assert read_results(path) == report.results
    raw = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert raw["model"] == {
        "name": "bands",
        "row": "model",
        "sha256": "0" * 64,
        "architecture": "film_unet",
        "parameters": 0,
        "encoder": "tiny",
    }
    assert {"torch", "numpy", "marssep"} <= raw["versions"].keys()
    assert raw["settings"]["seed"] == 0
    assert path.with_suffix(".md").read_text() == markdown(report.results)
    assert read_results(tmp_path / "run" / "mixtures" / "results.json") == report.results
    with (tmp_path / "run" / "mixtures" / "scores.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == len(report.scores) == 6 * (3 * 2 + 4 * 3)  # three baselines, four kinds of query
    texts = [row for row in rows if (row["system"], row["modality"], row["present"]) == ("model", "text", "1")]
    mean = np.mean([float(row["si_sdr_improvement_db"]) for row in texts])
    assert mean == pytest.approx(report.results.row("model", "text").si_sdr_improvement_db.mean, abs=1e-3)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_list_by_path_keeps_its_name_and_checksum(
    separator_with: Build, corpus: Corpus, specs: list[MixtureSpec], tmp_path: Path
) -> None:
    write_list(tmp_path / "bands.jsonl", specs)
    made = evaluate(separator_with(0.1), corpus, mixtures=tmp_path / "bands.jsonl", settings=TEXT)
    assert made.topic == "bands"
    assert made.results.mixtures.sha256 == hashlib.sha256((tmp_path / "bands.jsonl").read_bytes()).hexdigest()
    limited = evaluate(
        separator_with(0.1),
        corpus,
        mixtures=tmp_path / "bands.jsonl",
        settings=TEXT.model_copy(update={"limit": 2}),
    )
    assert (limited.topic, limited.results.mixtures.n_mixtures) == ("bands-first2", 2)


def test_refuses(
    report: Report, separator_with: Build, corpus: Corpus, specs: list[MixtureSpec], tmp_path: Path
) -> None:
    separator = separator_with(0.1)
    missing = dataclasses.replace(specs[0].sources[0], item="nobody")
    with pytest.raises(CorpusError, match=r"1 items are not in the corpus.*nobody"):
        evaluate(separator, corpus, mixtures=[dataclasses.replace(specs[0], sources=(missing, specs[0].sources[1]))])
    with pytest.raises(CorpusError, match="known lists"):
        evaluate(separator, corpus, mixtures="no-such-list")
    with pytest.raises(UsageError, match="limit = 0"):
        evaluate(separator, corpus, mixtures=specs, settings=EvaluateSettings(limit=0))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--output"):
        report.write(tmp_path / "file", run_folder=tmp_path)
    for text in ("", "{}", '{"format": 2}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InputError, match=r"bad\.json: not a results file"):
            read_results(tmp_path / "bad.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_results(tmp_path / "none.json")
