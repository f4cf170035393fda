"""A run folder as the report sees it: figures, scores of single queries, kept recordings, as far as they are there."""

from dataclasses import dataclass
from pathlib import Path

from marssep.errors import InputError
from marssep.evaluate.kept import ITEMS, KeptItem, read_kept
from marssep.evaluate.report.items import ScoreTable, Series, read_table
from marssep.evaluate.results import Results, read_results

RESULTS = "results.json"
SCORES = "scores.csv"


@dataclass(frozen=True, slots=True)
class Run:
    """What there is to report.

    Attributes:
        folder: paths of kept recordings are relative to it.
        results: the figures.
        scores: of single queries; None if the run has no such table.
        kept: queries whose recordings were kept; empty if none were.
        missing: one sentence for each part that is not there.
    """

    folder: Path
    results: Results
    scores: ScoreTable | None
    kept: tuple[KeptItem, ...]
    missing: tuple[str, ...]

    def table(self) -> ScoreTable:
        """Scores of single queries.

        Raises:
            InputError: if the run has none.
        """
        if self.scores is None:
            raise InputError(f"{self.folder}: has no table of scores; run 'marssep evaluate' and name its run folder.")
        return self.scores

    @property
    def main(self) -> str:
        """The system that plots are about: `model`, or the first one that is asked anything."""
        asked = [row.system for row in self.results.systems if row.modality is not None]
        return "model" if "model" in asked or not asked else asked[0]

    def main_series(self) -> list[Series]:
        """The main system by each kind of query that it was scored with."""
        if self.scores is None:
            return []
        return [one for one in self.scores.series if one.system == self.main and one.modality is not None]


def results_path(path: Path) -> Path:
    """The results file of a run folder; a path that is no folder is the file itself.

    Raises:
        InputError: if the folder has none.
    """
    if not path.is_dir():
        return path
    if not (path / RESULTS).is_file():
        raise InputError(f"{path}: holds no {RESULTS}; name a run folder of 'marssep evaluate' or a results file.")
    return path / RESULTS


def read_run(path: Path) -> Run:
    """Read a run folder, or a results file with its table beside it (`LIST.json`, `LIST.csv`).

    Raises:
        InputError: if there is no results file, or if a part that is there is broken.
    """
    inside = path.is_dir()
    folder = path if inside else path.parent
    scores_path = folder / SCORES if inside else path.with_suffix(".csv")
    results = read_results(results_path(path))
    missing = []
    scores = read_table(scores_path) if scores_path.is_file() else None
    if scores is None:
        missing.append(
            f"There is no {scores_path.name} with the scores of single queries, so the plots, the calibration of "
            "presence and what the results do not hold themselves are left out."
        )
    kept = tuple(read_kept(folder)) if inside and (folder / ITEMS).is_file() else ()
    if not kept:
        missing.append(
            "No recordings were kept, so there are no spectrograms and nothing to listen to; "
            "'marssep evaluate --keep-audio N' keeps some."
        )
    run = Run(folder, results, scores, kept, tuple(missing))
    return Run(folder, results, scores, kept, (*missing, *_disagreements(run)))


def _disagreements(run: Run) -> list[str]:
    """Scores of another run beside the results would make tables that contradict each other."""
    if run.scores is None:
        return []
    wrong = []
    for row in run.results.systems:
        rows = run.scores.present(Series(system=row.system, modality=row.modality))
        told = row.si_sdr_improvement_db
        if row.group != "all" or not rows or told.mean is None:
            continue
        found = sum(one.value("si_sdr_improvement_db") for one in rows) / len(rows)
        if len(rows) != told.n or abs(found - told.mean) > 1e-3:  # the table has four decimals
            wrong.append(Series(system=row.system, modality=row.modality).name)
    if not wrong:
        return []
    return [
        f"The table of scores gives other figures than the results for {', '.join(wrong)}: they are not of one run, "
        "so do not compare the parts of this page."
    ]
