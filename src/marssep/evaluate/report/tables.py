"""The tables of the page as plain cells; what is text and what is a number is decided here, how it looks is not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from marssep.evaluate.presence import kept_gain
from marssep.evaluate.report.counting import SNR_EDGES_DB, Calibration, Draws, standard_error, stratum
from marssep.evaluate.report.items import GAIN, ScoreTable, Series, column
from marssep.evaluate.report.run import Run
from marssep.evaluate.results import GATED, Figure, SystemRow
from marssep.evaluate.table import name_of
from marssep.metrics import Interval

MOST_ROWS = 30
"""A longer table scrolls in a frame of its own."""
GROUPS = ("instrument", "sound", "speech")
SNR_CAPTION = "SI-SDRi in dB by input SNR of the target."
_EXTRA = (("text_score", "text score"), ("audio_score", "audio score"), ("judge", "judge"))


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        text: what it says.
        detail: said smaller below it, such as an interval.
        sort: what the column is sorted by; None sorts last.
        number: whether it stands on the right.
        strong: a difference that is detected.
    """

    text: str
    detail: str = ""
    sort: float | str | None = None
    number: bool = True
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its sentence; every row has as many cells as the header.

    Attributes:
        name: tells it from the others on the page, for links.
        caption: what it shows.
        header: names of the columns.
        rows: the first cell of each names it.
        sortable: whether the reader may sort it.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    sortable: bool = False

    @property
    def tall(self) -> bool:
        """Whether it scrolls in a frame of its own, lest the reader scrolls past hundreds of rows."""
        return len(self.rows) > MOST_ROWS


def series_name(series: Series) -> str:
    """A system and the kind of query it was asked by."""
    return name_of(series.system) + (f", {series.modality} query" if series.modality else "")


def systems_table(run: Run) -> Table:
    """The headline: every system by every kind of query."""
    rows = [row for row in run.results.systems if row.group == "all"]
    extra = [(key, name) for key, name in _EXTRA if any(getattr(row, key, None) is not None for row in rows)]
    with_bss = any(row.bss is not None for row in rows)
    header = ["system", "query", "n", "SI-SDRi (dB)", "median", "SEM", "SNR (dB)", *(name for _, name in extra)]
    cells = []
    for row in rows:
        gain = row.si_sdr_improvement_db
        line = [
            _word(name_of(row.system)),
            _word(row.modality or "none"),
            _count(gain.n),
            figure_cell(gain),
            _decimal(gain.median),
            _decimal(_sem(run, row)),
            _decimal(None if row.snr_db is None else row.snr_db.mean),
            *(figure_cell(getattr(row, key, None), digits=3) for key, _ in extra),
        ]
        if with_bss:
            bss = row.bss
            values = (None, None, None) if bss is None else (bss.sdr_db, bss.sir_db, bss.sar_db)
            line += [_decimal(value) for value in values]
            line.append(_count(None if bss is None else bss.n))
        cells.append(tuple(line))
    header += ["BSS-eval SDR", "SIR", "SAR", "BSS-eval n"] if with_bss else []
    return Table("systems", "Every system by every kind of query.", tuple(header), tuple(cells), sortable=True)


def groups_table(run: Run) -> Table:
    """SI-SDRi by family of sounds."""
    cells = []
    for row in run.results.systems:
        if row.group != "all" or row.system == "mixture" or row.system.endswith(GATED):
            continue
        parts = [run.results.row(row.system, row.modality, group=group) for group in GROUPS]
        figures = [figure_cell(None if part is None else part.si_sdr_improvement_db, with_n=True) for part in parts]
        cells.append((_word(name_of(row.system)), _word(row.modality or "none"), *figures))
    return Table("groups", "SI-SDRi in dB by group of the target.", ("system", "query", *GROUPS), tuple(cells))


def classes_table(run: Run) -> Table:
    """SI-SDRi of the main system by class and kind of query."""
    rows = [row for row in run.results.classes if getattr(row, "system", run.main) == run.main]
    modalities = list(dict.fromkeys(row.modality for row in run.results.systems if row.modality is not None))
    table: dict[tuple[str, str], dict[str, Figure]] = {}
    for row in rows:
        table.setdefault((row.label, row.group), {})[row.modality] = row.si_sdr_improvement_db
    cells = [
        (_word(label), _word(group), *(figure_cell(figures.get(one), with_n=True) for one in modalities))
        for (label, group), figures in sorted(table.items())
    ]
    caption = f"SI-SDRi of {name_of(run.main)} in dB by class, with the number of queries."
    return Table("classes", caption, ("class", "group", *modalities), tuple(cells), sortable=True)


def snr_table(scores: ScoreTable, draws: Draws) -> Table:
    """SI-SDRi of every series by the level of the target in the mixture."""
    snr = scores.input_snr()
    used = {stratum(level) for level in snr.values()}
    strata = [pair for pair in pairwise(SNR_EDGES_DB) if pair in used]
    cells = []
    for series in scores.series:
        rows = [row for row in scores.present(series) if row.key in snr]
        if series.system == "mixture" or not rows:
            continue
        line = [_word(name_of(series.system)), _word(series.modality or "none")]
        for pair in strata:
            chosen = [row for row in rows if stratum(snr[row.key]) == pair]
            line.append(interval_cell(draws.mean(column(chosen, GAIN), chosen), with_n=True))
        cells.append(tuple(line))
    header = ("system", "query", *(_stratum_name(low, high) for low, high in strata))
    return Table("snr", SNR_CAPTION, header, tuple(cells))


def pair_tables(scores: ScoreTable, draws: Draws) -> list[Table]:
    """Any two systems and any two kinds of query against each other.

    For each kind of query, the systems asked by it against each other and against those that see no query; then these
    among themselves; then, for each system, its kinds of query.
    """
    known = [one for one in scores.series if scores.present(one)]
    blind = {one: name_of(one.system) for one in known if one.modality is None}
    asked = [one for one in known if one.modality is not None]
    tables = []
    for modality in dict.fromkeys(one.modality for one in asked):
        rows = {one: name_of(one.system) for one in asked if one.modality == modality}
        name, caption = (
            f"pairs-{modality}",
            f"Systems by {modality} query: SI-SDRi of the row minus that of the column, in dB.",
        )
        tables.append(_matrix(scores, draws, name=name, caption=caption, rows=rows, columns=rows | blind))
    caption = "Systems that see no query: SI-SDRi of the row minus that of the column, in dB."
    tables.append(_matrix(scores, draws, name="pairs-none", caption=caption, rows=blind, columns=blind))
    for place, system in enumerate(dict.fromkeys(one.system for one in asked), 1):
        caption = f"Kinds of query, {name_of(system)}: SI-SDRi by the row's minus that by the column's, in dB."
        rows = {one: one.modality or "" for one in asked if one.system == system}
        tables.append(_matrix(scores, draws, name=f"queries-{place}", caption=caption, rows=rows, columns=rows))
    return [table for table in tables if table.rows and len(table.header) > 2]


def _matrix(
    scores: ScoreTable,
    draws: Draws,
    *,
    name: str,
    caption: str,
    rows: dict[Series, str],
    columns: dict[Series, str],
) -> Table:
    """Every row minus every column; what is below the diagonal is what is above it with the sign turned."""
    known: dict[tuple[Series, Series], Interval] = {}
    cells = []
    for first, label in rows.items():
        line = [_word(label)]
        for second in columns:
            if first == second:
                line.append(Cell("·"))
                continue
            if (first, second) not in known:
                found = draws.difference(scores, first, second)
                known[first, second] = found
                known[second, first] = Interval(-found.mean, -found.high, -found.low, found.n, found.n_clusters)
            line.append(interval_cell(known[first, second], with_n=True, sign=True))
        cells.append(tuple(line))
    return Table(name, caption, ("minus →", *columns.values()), tuple(cells))


def told_pairs(run: Run) -> list[Table]:
    """Differences as the results have them, where the scores are not there."""
    queries = [
        (
            _word(f"{row.modality} − {row.baseline}"),
            _count(row.difference_db.n),
            figure_cell(row.difference_db, sign=True),
        )
        for row in run.results.paired
    ]
    systems = [
        (
            _word(f"{name_of(row.first)} − {name_of(row.second)}"),
            _word(row.modality or "none"),
            _count(row.difference_db.n),
            figure_cell(row.difference_db, sign=True),
        )
        for row in run.results.comparisons
    ]
    caption = "Paired differences of SI-SDRi over the queries that both have, in dB."
    tables = [
        Table("queries", caption, ("kinds of query", "n", "mean (dB)"), tuple(queries)),
        Table("pairs", caption, ("systems", "query", "n", "mean (dB)"), tuple(systems), sortable=True),
    ]
    return [table for table in tables if table.rows]


def told_snr(run: Run) -> Table | None:
    """SI-SDRi by level of the target as the results have it, where the scores are not there."""
    strata = sorted(
        {
            (-math.inf if row.low_db is None else row.low_db, math.inf if row.high_db is None else row.high_db)
            for row in run.results.strata
        }
    )
    lines: dict[tuple[str, str | None], dict[float, Figure]] = {}
    for row in run.results.strata:
        low = -math.inf if row.low_db is None else row.low_db
        lines.setdefault((row.system, row.modality), {})[low] = row.si_sdr_improvement_db
    cells = [
        (
            _word(name_of(system)),
            _word(modality or "none"),
            *(figure_cell(figures.get(low), with_n=True) for low, _ in strata),
        )
        for (system, modality), figures in lines.items()
    ]
    header = ("system", "query", *(_stratum_name(low, high) for low, high in strata))
    return Table("snr", SNR_CAPTION, header, tuple(cells)) if cells else None


def presence_table(run: Run) -> Table:
    """What the gate does with absent and with present sounds."""
    level = run.results.settings.get("absent_level_db", 15.0)
    header = (
        "system",
        "query",
        "threshold",
        f"absent: {level:g} dB down",
        "absent: the same without gate",
        "absent n",
        "present: SI-SDRi kept",
        "present rejected",
    )
    rows = [
        (
            _word(name_of(row.system)),
            _word(row.modality),
            _decimal(row.threshold, digits=3),
            _share(row.absent_suppressed),
            _share(row.absent_suppressed_by_mask),
            _count(row.absent_suppressed.n),
            _share(row.kept),
            _share(row.present_rejected),
        )
        for row in run.results.presence
    ]
    return Table(
        "presence",
        f"The gate: share of absent sounds whose estimate lies {level:g} dB or more below the mixture, and its price.",
        header,
        tuple(rows),
    )


def calibration_table(found: Sequence[Calibration]) -> Table:
    """How well presence tells and how far it can be taken at its word."""
    rows = [
        (
            _word(name_of(one.series.system)),
            _word(one.series.modality or "none"),
            _count(one.n_present),
            _count(one.n_absent),
            _decimal(one.area, digits=3),
            _decimal(one.error, digits=3),
            _decimal(one.balanced_error, digits=3),
            _decimal(one.brier, digits=3),
        )
        for one in found
    ]
    header = ("system", "query", "present n", "absent n", "ROC area", "ECE", "ECE, balanced", "Brier score")
    return Table("calibration", "Presence against the truth.", header, tuple(rows))


def problems_table(run: Run) -> Table:
    """What could not be scored."""
    rows = [
        (
            _word(row.mixture),
            _word("all" if row.query is None else str(row.query)),
            _word("all" if row.system is None else name_of(row.system)),
            _word(row.what),
        )
        for row in run.results.problems
    ]
    return Table(
        "problems", "What could not be scored; all the rest was.", ("mixture", "query", "system", "what"), tuple(rows)
    )


def figure_cell(figure: Figure | None, *, with_n: bool = False, sign: bool = False, digits: int = 2) -> Cell:
    """A mean with its interval below it; empty where nothing was measured."""
    if figure is None or figure.mean is None:
        return Cell("")
    low = math.nan if figure.low is None else figure.low
    high = math.nan if figure.high is None else figure.high
    interval = Interval(figure.mean, low, high, figure.n, figure.n_mixtures)
    return interval_cell(interval, with_n=with_n, sign=sign, digits=digits)


def interval_cell(interval: Interval, *, with_n: bool = False, sign: bool = False, digits: int = 2) -> Cell:
    """As `figure_cell`; with a sign, a difference whose interval is on one side of zero is strong."""
    if math.isnan(interval.mean):
        return Cell("")
    detail = ""
    if math.isfinite(interval.low) and interval.n_clusters > 1:
        detail = (
            f"{number(interval.low, digits=digits, sign=sign)} to {number(interval.high, digits=digits, sign=sign)}"
        )
    if with_n:
        detail = f"{detail}, n {interval.n}" if detail else f"n {interval.n}"
    strong = sign and interval.n_clusters > 1 and interval.excludes_zero()
    return Cell(number(interval.mean, digits=digits, sign=sign), detail, interval.mean, strong=strong)


def number(value: float, *, digits: int = 2, sign: bool = False) -> str:
    """Fixed decimals with a true minus sign and no negative zero."""
    rounded = round(value, digits) + 0.0
    return (f"{rounded:+.{digits}f}" if sign else f"{rounded:.{digits}f}").replace("-", "−")


def _sem(run: Run, row: SystemRow) -> float | None:
    if row.si_sdr_improvement_db.sem is not None or run.scores is None:
        return row.si_sdr_improvement_db.sem
    system = row.system.removesuffix(GATED)  # results of earlier versions have no standard errors
    rows = run.scores.present(Series(system=system, modality=row.modality))
    gains = column(rows, GAIN)
    if row.system != system:
        told = [one.threshold for one in run.results.presence if (one.system, one.modality) == (system, row.modality)]
        gains = kept_gain(gains, column(rows, "presence") < (told[0] if told else math.nan))
    return standard_error(gains)


def _stratum_name(low: float, high: float) -> str:
    if math.isinf(low):
        return f"below {number(high, digits=0)} dB"
    if math.isinf(high):
        return f"{number(low, digits=0)} dB and above"
    return f"{number(low, digits=0)} to {number(high, digits=0)} dB"


def _word(text: str) -> Cell:
    return Cell(text, sort=text.casefold(), number=False)


def _count(value: int | None) -> Cell:
    return Cell("" if value is None else f"{value:,}", sort=value)


def _decimal(value: float | None, *, digits: int = 2) -> Cell:
    return Cell("") if value is None or math.isnan(value) else Cell(number(value, digits=digits), sort=value)


def _share(figure: Figure) -> Cell:
    if figure.mean is None:
        return Cell("")
    detail = ""
    if figure.low is not None and figure.high is not None:
        detail = f"{number(100 * figure.low, digits=1)} to {number(100 * figure.high, digits=1)}"
    return Cell(f"{100 * figure.mean:.1f} %", detail, figure.mean)
