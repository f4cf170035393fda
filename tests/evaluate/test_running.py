"""Runs that stop and go on, items that cannot be scored, several systems side by side, and what is kept."""

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from marssep.audio import read_audio, write_audio
from marssep.cli import run as run_command
from marssep.corpus.lists import write_list
from marssep.corpus.mixing import MixtureSpec
from marssep.corpus.store import Corpus
from marssep.errors import InputError, UsageError
from marssep.evaluate import EvaluateSettings, markdown, read_results
from marssep.evaluate.beyond import SemanticScorer
from marssep.evaluate.export import write_mixtures
from marssep.evaluate.kept import read_kept, read_kept_audio
from marssep.evaluate.material import ListMaterial, Rendered, Task
from marssep.evaluate.path import SeparatedQueries, separate_queries
from marssep.evaluate.protocol import Contestants, Report, evaluate_all
from marssep.evaluate.systems import BaselineSystem
from marssep.separate import Separator
from marssep.spectral import Spectrogram

Build = Callable[..., Separator]
TEXT = EvaluateSettings(modalities=("text",), baselines=("mixture", "oracle_binary_stft"), bss_mixtures=0, resamples=50)


@pytest.fixture
def material(corpus: Corpus, specs: list[MixtureSpec]) -> ListMaterial:
    return ListMaterial("bands", specs, corpus)


class Stopped(BaseException):
    """Stands for Ctrl-C, which is no Exception either."""


def rendered_by(material: ListMaterial, monkeypatch: pytest.MonkeyPatch, *, stop_at: int | None = None) -> list[str]:
    """Ids of the mixtures that are rendered from now on; the one numbered `stop_at` stops everything."""
    seen: list[str] = []
    true = ListMaterial.render

    def render(self: ListMaterial, task: Task) -> Rendered:
        seen.append(task.id)
        if len(seen) - 1 == stop_at:
            raise Stopped
        return true(self, task)

    monkeypatch.setattr(ListMaterial, "render", render)
    return seen


def test_a_stopped_run_goes_on_and_gives_the_same_figures(
    material: ListMaterial, separator_with: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Contestants({"bands": separator_with(0.1)})
    whole = evaluate_all(material, ours, settings=TEXT)
    with monkeypatch.context() as patch:
        rendered_by(material, patch, stop_at=3)
        with pytest.raises(Stopped):
            evaluate_all(material, ours, settings=TEXT, run_folder=tmp_path)
    journal = tmp_path / "bands" / "journal.jsonl"
    journal.write_text(journal.read_text() + '{"key": "cut sho')
    with monkeypatch.context() as patch:
        seen = rendered_by(material, patch)
        resumed = evaluate_all(material, ours, settings=TEXT, run_folder=tmp_path)
        assert seen == ["mix-3", "mix-4", "mix-5"]
        assert resumed.results.figures() == whole.results.figures()
        assert [str(score) for score in resumed.scores] == [str(score) for score in whole.scores]
        seen.clear()
        again = evaluate_all(material, ours, settings=TEXT, run_folder=tmp_path)
        assert seen == []
        assert again.results.figures() == whole.results.figures()
        evaluate_all(material, Contestants({"bands": separator_with(0.1)}), settings=TEXT, run_folder=tmp_path)
        assert seen == []  # the same model, loaded again
        more = ours.models | {"other": dataclasses.replace(separator_with(0.3).model, sha256="1" * 64)}
        more["other"] = Separator(more["other"], separator_with(0.3).encoder)
        evaluate_all(material, Contestants(more), settings=TEXT, run_folder=tmp_path)
        assert len(seen) == 6  # for the new system only: the scores of the others are kept
        seen.clear()
        evaluate_all(material, ours, settings=TEXT, run_folder=tmp_path, resume=False)
        assert len(seen) == 6


def test_another_threshold_keeps_the_scores_and_changes_what_they_say(
    material: ListMaterial, separator_with: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gated(**changes: float) -> Contestants:
        model = separator_with(0.1).model
        config = model.config.model_copy(update=changes)
        return Contestants({"bands": Separator(dataclasses.replace(model, config=config), separator_with(0.1).encoder)})

    seen = rendered_by(material, monkeypatch)
    before = evaluate_all(material, gated(presence_threshold=0.0), settings=TEXT, run_folder=tmp_path)
    assert len(seen) == 6
    after = evaluate_all(material, gated(presence_threshold=1.1), settings=TEXT, run_folder=tmp_path)
    assert len(seen) == 6
    rejected = [run.results.presence[0].absent_rejected.mean for run in (before, after)]
    assert rejected == [0.0, 1.0]
    evaluate_all(material, gated(presence_bias=0.5), settings=TEXT, run_folder=tmp_path)
    assert len(seen) == 12  # another presence


def test_what_is_not_there_is_reported_and_the_rest_is_scored(
    separator_with: Build, corpus: Corpus, specs: list[MixtureSpec]
) -> None:
    nobody = dataclasses.replace(specs[1].sources[0], item="nobody")
    unasked = dataclasses.replace(specs[2].queries[1], audio="no-recording")
    changed = [
        specs[0],
        dataclasses.replace(specs[1], sources=(nobody, specs[1].sources[1])),
        dataclasses.replace(specs[2], queries=(specs[2].queries[0], unasked)),
    ]
    settings = TEXT.model_copy(update={"modalities": ("text", "audio")})
    material = ListMaterial("bands", changed, corpus)
    results = evaluate_all(material, Contestants({"bands": separator_with(0.1)}), settings=settings).results
    assert [(p.mixture, p.query, p.what) for p in results.problems] == [
        ("mix-1", None, "not there: nobody"),
        ("mix-2", 1, "its query recording 'no-recording' is not there; not asked by it"),
    ]
    assert results.row("model", "text").si_sdr_improvement_db.n == 4
    assert results.row("model", "audio").si_sdr_improvement_db.n == 3
    assert "Could not be scored (2)" in markdown(results)


def test_a_models_nan_is_reported_and_the_rest_is_scored(
    material: ListMaterial, separator_with: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **named: Any) -> SeparatedQueries:
        made = separate_queries(*arguments, **named)
        made.targets[1, 7] = float("nan")
        return made

    monkeypatch.setattr("marssep.evaluate.systems.separate_queries", broken)
    results = evaluate_all(material, Contestants({"bands": separator_with(0.1)}), settings=TEXT).results
    assert [(p.mixture, p.query, p.system) for p in results.problems] == [
        (task.id, 1, "model") for task in material.tasks
    ]
    assert "the estimate by text is not finite" in results.problems[0].what
    row = results.row("model", "text").si_sdr_improvement_db
    assert (row.n, results.presence[0].absent_suppressed.n) == (6, 6)
    assert row.mean == pytest.approx(20.0, rel=0.05)


def test_systems_side_by_side(material: ListMaterial, separator_with: Build) -> None:
    models = {"good": separator_with(0.1), "worse": separator_with(0.2)}
    results = evaluate_all(material, Contestants(models), settings=TEXT).results
    assert [(model.name, model.row) for model in results.models] == [("good", "model"), ("worse", "worse")]
    assert results.row("worse_gated", "text") is not None
    difference = results.difference("model", "worse", "text")
    assert difference.n == 12
    assert difference.mean == pytest.approx(6.0, rel=0.05)
    assert difference.low > 5.0
    assert results.difference("mixture", "model", "text").mean == pytest.approx(-20.0, rel=0.05)
    assert results.row("oracle_binary_stft").si_sdr_improvement_db.mean > 40.0
    text = markdown(results)
    assert "| worse - marssep | text | 12 | -6." in text
    assert {row.system for row in results.presence} == {"model", "worse"}
    with pytest.raises(UsageError, match="two rows have this name"):
        evaluate_all(material, Contestants(models | {"mixture": models["worse"]}), settings=TEXT)


def test_figures_beyond_the_signal(material: ListMaterial, separator_with: Build) -> None:
    separator = separator_with(0.1)
    scored = Contestants({"bands": separator}, scorers=[SemanticScorer(separator.encoder)])
    results = evaluate_all(material, scored, settings=TEXT).results
    row = results.row("model", "text")
    assert (row.text_score.n, row.text_score.mean, row.audio_score.mean) == (12, 1.0, 1.0)  # it hears the right band
    assert results.row("mixture").text_score.mean < 1.0
    assert row.judge is None
    assert "| beyond the signal | query | text score |" in markdown(results)


def test_strata_hold_every_query_once(material: ListMaterial, separator_with: Build) -> None:
    settings = TEXT.model_copy(update={"strata_db": (-2.0, 0.0, 2.0)})
    results = evaluate_all(material, Contestants({"bands": separator_with(0.1)}), settings=settings).results
    rows = [row for row in results.strata if row.system == "model"]
    assert [(row.low_db, row.high_db) for row in rows] == [(None, -2.0), (-2.0, 0.0), (0.0, 2.0), (2.0, None)]
    assert sum(row.si_sdr_improvement_db.n for row in rows) == 12
    assert "SI-SDRi by input SNR" in markdown(results)
    figure = results.row("model", "text").si_sdr_improvement_db
    assert 0.0 < figure.sem < 1.0


def test_audio_is_kept(material: ListMaterial, separator_with: Build, tmp_path: Path) -> None:
    settings = TEXT.model_copy(update={"keep_audio": 2, "modalities": ("text", "audio"), "limit": 4})
    ours = Contestants({"bands": separator_with(0.1)})
    report = evaluate_all(material, ours, settings=settings, run_folder=tmp_path)
    folder = tmp_path / "bands-first4"
    items = read_kept(folder)
    names = {(item.mixture_id, item.query) for item in items}
    by_text = [score for score in report.scores if score.modality == "text" and score.present]
    gains = sorted(by_text, key=lambda score: score.si_sdr_improvement_db)
    assert {by_text[0].key, by_text[-1].key, gains[0].key, gains[-1].key, gains[4].key} == names
    kept = read_kept_audio(folder, items[0])
    assert set(kept.estimates) == {"oracle_binary_stft", "model/text", "model/audio"}
    loudest = max(float(np.abs(waveform).max()) for waveform in (kept.mixture, *kept.estimates.values()))
    assert loudest <= 1.0
    task = next(task for task in material.tasks if task.id == items[0].mixture_id)
    np.testing.assert_allclose(kept.reference[0], material.render(task).sources[items[0].query].numpy(), atol=1e-6)
    assert read_audio(folder / items[0].mixture).subtype == "PCM_24"
    assert (folder / items[0].image).is_file()
    evaluate_all(material, ours, settings=settings.model_copy(update={"keep_audio": 0}), run_folder=tmp_path)
    assert read_kept(folder) == items  # a run that keeps nothing leaves what is there


# --- anybody's outputs ------------------------------------------------------------------------------------------------


@pytest.fixture
def outputs(material: ListMaterial, tmp_path: Path) -> Path:
    """What somebody made of the exported mixtures: the true sources with noise 20 dB below each."""
    write_mixtures(material, tmp_path / "given")
    made = tmp_path / "peer"
    made.mkdir()
    noise = np.random.default_rng(0).standard_normal(32000).astype(np.float32)
    with (tmp_path / "given" / "queries.csv").open() as table:
        for row in csv.DictReader(table):
            mixture = read_audio(tmp_path / "given" / f"{row['mixture']}.wav")
            task = next(task for task in material.tasks if task.id == row["mixture"])
            rendered = material.render(task)
            np.testing.assert_array_equal(mixture.waveform[0], rendered.mixture.numpy())
            if row["present"] == "1":
                source = rendered.sources[int(row["query"])].numpy()
                estimate = source + 0.1 * source.std() * noise
                write_audio(made / row["estimate"], estimate, sample_rate=mixture.sample_rate)
    return made


def of_peer(report: Report) -> list[tuple[str, int | None, str]]:
    return [(p.mixture, p.query, p.what) for p in report.results.problems if p.system == "peer"]


def test_a_folder_of_estimates_is_a_system(material: ListMaterial, outputs: Path, separator_with: Build) -> None:
    both = Contestants({"bands": separator_with(0.1)}, {"peer": outputs})
    report = evaluate_all(material, both, settings=TEXT)
    row = report.results.row("peer")
    assert row.si_sdr_improvement_db.n == 12
    assert row.snr_db.mean == pytest.approx(20.0, abs=0.2)
    assert report.results.difference("model", "peer", "text").n == 12
    assert report.results.problems == []
    alone = evaluate_all(material, Contestants({}, {"peer": outputs}), settings=TEXT)
    assert alone.results.row("peer").si_sdr_improvement_db.mean == row.si_sdr_improvement_db.mean


def test_bad_estimates_are_reported_one_by_one(material: ListMaterial, outputs: Path, tmp_path: Path) -> None:
    (outputs / "mix-0.0.wav").unlink()
    write_audio(outputs / "mix-1.0.wav", np.zeros(100, np.float32), sample_rate=32000)
    write_audio(outputs / "mix-1.1.wav", np.zeros(32000, np.float32), sample_rate=16000)
    write_audio(outputs / "mix-2.0.wav", np.full(32000, np.nan, np.float32), sample_rate=32000)
    (outputs / "mix-2.1.wav").write_bytes(b"no sound")
    (outputs / "mix-3.1.wav").rename(outputs / f"mix-3.{material.tasks[3].queries[1].label}.flac")  # WAV by content
    write_audio(outputs / "mix-9.0.wav", np.zeros(10, np.float32), sample_rate=32000)
    report = evaluate_all(material, Contestants({}, {"peer": outputs}), settings=TEXT, run_folder=tmp_path)
    problems = of_peer(report)
    assert [problem[:2] for problem in problems] == [
        ("mix-0", 0), ("mix-1", 0), ("mix-1", 1), ("mix-2", 0), ("mix-2", 1), ("", None)
    ]  # fmt: skip
    said = [problem[2] for problem in problems]
    assert said[0] == "no file mix-0.0.wav"
    assert "100 samples on 1 channel(s), the mixture has 32000" in said[1]
    assert "16000 Hz, the mixture has 32000 Hz" in said[2]
    assert "NaN" in said[3]
    assert "not an audio file" in said[4]
    assert said[5] == "mix-9.0.wav: belongs to no query of this list"
    assert report.results.row("peer").si_sdr_improvement_db.n == 7
    write_audio(outputs / "mix-0.0.wav", read_audio(outputs / "mix-0.1.wav").waveform, sample_rate=32000)
    again = evaluate_all(material, Contestants({}, {"peer": outputs}), settings=TEXT, run_folder=tmp_path)
    assert again.results.row("peer").si_sdr_improvement_db.n == 8  # a file that changed is scored anew
    with pytest.raises(InputError, match="no such folder of estimates"):
        evaluate_all(material, Contestants({}, {"peer": tmp_path / "none"}), settings=TEXT)


def test_baselines_know_of_what_nobody_asks_for(material: ListMaterial, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def baseline(mixture: Tensor, sources: Tensor, spectral: object, sample_rate: int) -> Tensor:
        seen.append(tuple(sources.shape))
        return sources

    monkeypatch.setattr("marssep.evaluate.systems.BASELINES", {"spy": baseline})
    task = material.tasks[0]
    rendered = material.render(task)
    spy = BaselineSystem("spy", Spectrogram())
    [answer], _ = spy.answers(task, Rendered(rendered.mixture, rendered.sources[:1], rendered.sample_rate))
    torch.testing.assert_close(answer.estimate, rendered.sources[:1])
    spy.answers(task, rendered)
    assert seen == [(2, 32000), (2, 32000)]


def test_commands(
    corpus: Corpus,
    specs: list[MixtureSpec],
    separator_with: Build,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed = dataclasses.replace(specs[1], sources=(dataclasses.replace(specs[1].sources[0], item="no"),) * 2)
    write_list(tmp_path / "bands.jsonl", [specs[0], changed])
    monkeypatch.setattr(Separator, "load", lambda name: separator_with({"a": 0.1, "b": 0.2}[name]))
    monkeypatch.chdir(tmp_path)
    common = ["evaluate", "--corpus", str(corpus.folders[0]), "--split", "bands.jsonl", "--quiet", "--jobs", "1"]
    common += ["--baseline", "mixture"]
    models = ["--model", "first=a", "--model", "b"]
    assert run_command([*common, *models, "--keep-audio", "1"]) == 0
    captured = capsys.readouterr()
    assert "1 could not be scored" in captured.err
    assert "| b - marssep | text |" in captured.out
    assert [model.name for model in read_results("results/bands.json").models] == ["first", "b"]
    assert read_kept("runs/evaluate/bands")
    assert run_command([*common, *models, "--strict"]) == 1
    assert "--strict" in capsys.readouterr().err
    assert run_command([*common, "--write-mixtures", "given"]) == 0
    assert sorted(path.name for path in Path("given").iterdir()) == ["mix-0.wav", "queries", "queries.csv"]
    assert run_command([*common, "--protocol", "open-test"]) == 2
    assert run_command([*common, "--model", "x=a", "--model", "x=b"]) == 2
    capsys.readouterr()
    assert run_command([*common, "--estimates", "peer=given", "--json"]) == 0  # mixtures are no estimates: all gaps
    assert len(json.loads(capsys.readouterr().out)["problems"]) > 1
