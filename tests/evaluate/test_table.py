"""The Markdown tables and the two commands that print them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from marssep.cli.evaluate import OutputOptions, RunOptions
from marssep.cli.evaluate import evaluate as evaluate_command
from marssep.cli.report import report as report_command
from marssep.corpus.lists import write_list
from marssep.corpus.mixing import MixtureSpec
from marssep.corpus.store import Corpus
from marssep.errors import UsageError
from marssep.evaluate import EvaluateSettings, Results, evaluate, markdown, read_results
from marssep.evaluate.results import ClassRow, Figure
from marssep.evaluate.table import brief
from marssep.metrics import mean_interval
from marssep.separate import Separator

Build = Callable[..., Separator]


@pytest.fixture(scope="module")
def results(separator_with: Build, corpus: Corpus, specs: list[MixtureSpec]) -> Results:
    settings = EvaluateSettings(resamples=100, bss_mixtures=1, baselines=("mixture", "oracle_stft"))
    return evaluate(separator_with(0.1), corpus, mixtures=specs, settings=settings, model_name="bands").results


def test_tables(results: Results) -> None:
    text = markdown(results)
    lines = text.splitlines()
    assert lines[0] == "### mixtures"
    assert "| mixture (doing nothing) |  | 12 | 0.00 [0.00, 0.00] | 0.00 |" in text
    assert "| marssep, gated by presence | composed |" in text
    assert "| composed - text | 12 | +0.00 [+0.00, +0.00] |" in text
    assert "target >= 15 dB below the mixture" in text
    assert "Classes below 0 dB by text (n): none." in text
    assert any(line.startswith("| chatter | speech | ") for line in lines)
    assert "chatter" not in markdown(results, classes=False)
    for table in text.split("\n\n"):
        widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(widths) <= 1, table


def test_several_lists_in_one_short_table(results: Results) -> None:
    other = results.model_copy(
        update={"mixtures": results.mixtures.model_copy(update={"name": "crowd"}), "systems": []}
    )
    lines = brief([results, other]).splitlines()
    assert lines[0].startswith("| list (mixtures) | system | by text | by example | by picture | by all | absent 15 dB")
    row = results.row("model", "text")
    assert row is not None
    figure = row.si_sdr_improvement_db
    assert f"`bands` | {figure.mean:.2f} [{figure.low:.2f}, {figure.high:.2f}] |" in lines[2]
    assert lines[3].startswith("| crowd (")
    assert len({line.count("|") for line in lines}) == 1


def test_classes_below_zero_are_named(results: Results) -> None:
    figure = Figure.of(mean_interval([-2.0, -1.0]))
    bad = ClassRow(label="hiss", group="sound", modality="text", si_sdr_improvement_db=figure)
    text = markdown(results.model_copy(update={"classes": [bad]}), classes=False)
    assert "Classes below 0 dB by text (n): hiss -1.50 (2)." in text


def test_figures_without_values_are_null_and_empty() -> None:
    figure = Figure.of(mean_interval([float("nan")]))
    assert (figure.mean, figure.low, figure.high, figure.median) == (None, None, None, None)
    single = Figure.of(mean_interval([3.0]))
    assert (single.mean, single.low) == (3.0, None)  # one mixture has no interval


def test_commands(
    separator_with: Build,
    corpus: Corpus,
    specs: list[MixtureSpec],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_list(tmp_path / "bands.jsonl", specs)
    monkeypatch.setattr(Separator, "load", lambda name: separator_with(0.1))
    where = {"corpus": corpus.folders, "split": str(tmp_path / "bands.jsonl"), "run": RunOptions(limit=2, jobs=1)}
    out = OutputOptions(output=tmp_path / "results", run_folder=tmp_path / "run", as_json=True)
    evaluate_command(**where, out=out)
    captured = capsys.readouterr()
    path = tmp_path / "results" / "bands-first2.json"
    assert json.loads(captured.out) == json.loads(path.read_text())
    assert "mixtures" in captured.err  # the bar
    assert (tmp_path / "run" / "bands-first2" / "scores.csv").is_file()
    report_command(path, classes=True)
    assert capsys.readouterr().out == markdown(read_results(path))
    with pytest.raises(UsageError, match="No results file"):
        report_command()
