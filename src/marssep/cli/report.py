"""`marssep report`: print results as Markdown tables, or write them as one HTML file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from marssep.errors import UsageError


def report(
    *results: Path,
    classes: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    brief: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    html: Path | None = None,
    items: Path | None = None,
    presence: Path | None = None,
    calibrate: Path | None = None,
) -> None:
    """Print what `marssep evaluate` wrote as Markdown tables, or write one HTML file with plots and players.

    Args:
        results: Run folders, or files such as results/open-test.json.
        classes: Add the table of classes.
        brief: One short table for all results together.
        html: Write the report of one run to this file instead; it needs no other file and no network.
        items: Write the scores of one run to this JSON file, one entry for each query.
        presence: Write ROC area, threshold and reliability of presence scores to this JSON file; of several runs of one
            model, of each and of all together.
        calibrate: Run on validation mixtures: with --presence, whether scaling presence as it fits there makes it more
            truthful here.
    """
    if not results:
        raise UsageError("No results file was named; give at least one, such as results/open-test.json.")
    if calibrate is not None and presence is None:
        raise UsageError("--calibrate adds to what --presence writes; give both.")
    if html is not None or items is not None or presence is not None:
        if len(results) > 1 and (html is not None or items is not None):
            raise UsageError(f"--html and --items take one run, not {len(results)}; write one file for each.")
        if presence is not None:
            _write_presence(results, presence, calibrate)
        if html is not None or items is not None:
            _write(results[0], html, items)
        return
    from marssep.evaluate import table
    from marssep.evaluate.report.run import results_path
    from marssep.evaluate.results import read_results

    read = [read_results(results_path(path)) for path in results]
    if brief:
        print(table.brief(read), end="")
    else:
        print("\n".join(table.markdown(each, classes=classes) for each in read), end="")


def _write(path: Path, html: Path | None, items: Path | None) -> None:
    from marssep.evaluate.report import html_report, items_json, read_run
    from marssep.evaluate.results import write_text

    run = read_run(path)
    if items is not None and run.scores is None:
        raise UsageError(f"{path}: has no table of scores, so --items has nothing to write; run 'marssep evaluate'.")
    if items is not None and run.scores is not None:
        write_text(items, items_json(run.scores, name=run.results.mixtures.name))
        print(items)
    if html is not None:
        text = html_report(run)
        write_text(html, text)
        print(f"{html} ({len(text.encode()) / 1e6:.1f} MB)")


def _write_presence(paths: Sequence[Path], output: Path, calibrate: Path | None) -> None:
    import json

    from marssep.evaluate.presence_calibration import calibration_record
    from marssep.evaluate.presence_record import presence_record
    from marssep.evaluate.report import read_run
    from marssep.evaluate.results import write_text

    runs = [read_run(path) for path in paths]
    record = presence_record(runs)
    if calibrate is not None:
        record["calibration"] = calibration_record(read_run(calibrate), runs[0])
    write_text(output, json.dumps(record, indent=1) + "\n")
    for kind, row in record.get("together", record["queries"]).items():
        low, high = row["area_interval"]
        print(
            f"{kind}: ROC area {row['area']:.3f} [{low:.3f}, {high:.3f}] ({row['n_present']} present, "
            f"{row['n_absent']} absent), at {record['threshold']:g} {row['present_accepted'][0]:.1%} of the present "
            f"accepted and {row['absent_rejected'][0]:.1%} of the absent rejected"
        )
    print(output)
