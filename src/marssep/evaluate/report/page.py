"""The page itself: figures, plots and players put into the template."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from marssep.errors import UsageError
from marssep.evaluate.kept import KeptItem, read_kept_audio
from marssep.evaluate.report import counting, tables
from marssep.evaluate.report.counting import Draws
from marssep.evaluate.report.items import ScoreTable, Series
from marssep.evaluate.report.recordings import Player, Ranked, best_median_worst, picture, players, ranked
from marssep.evaluate.report.run import Run
from marssep.evaluate.table import name_of

if TYPE_CHECKING:
    from markupsafe import Markup

MOST_BYTES = 12_000_000
"""A page up to this size opens on a phone and goes by mail."""

_SLACK = 1_000_000  # tables, style and text, which are written after the players are chosen


@dataclass(frozen=True, slots=True)
class Plot:
    """An inline plot and its sentence."""

    svg: "Markup"
    caption: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One kept item on the page."""

    heading: str
    asked: str
    picture: str | None
    plot: Plot | None
    players: tuple[Player, ...]


def html_report(run: Run, *, most_bytes: int = MOST_BYTES) -> str:
    """The report as one HTML document that needs no other file and no network.

    Args:
        run: as read by `read_run`.
        most_bytes: recordings are left out, and counted on the page, where the document would become larger.

    Raises:
        InputError: if a kept recording cannot be read.
        UsageError: if jinja2 is not installed.
    """
    template = _template()
    draws = _draws(run)
    parts: dict[str, Any] = {
        "run": run,
        "systems": tables.systems_table(run),
        "groups": tables.groups_table(run),
        "presence": tables.presence_table(run),
        "classes": tables.classes_table(run),
        "problems": tables.problems_table(run),
        "settings": sorted((key, _plain(value)) for key, value in run.results.settings.items()),
        "versions": sorted(run.results.versions.items()),
        "level": round(100 * draws.level),
    }
    parts |= _without_scores(run) if run.scores is None else _from_scores(run, run.scores, draws)
    plots = [value for value in parts.values() if isinstance(value, Plot)]
    parts |= _kept(run, most_bytes - _SLACK - sum(len(plot.svg.encode()) for plot in plots))
    return template.render(parts | _style_and_script())


def _template() -> Any:
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise UsageError(
            "the HTML report needs jinja2, which is not installed; run: pip install 'marssep[evaluate]'."
        ) from None
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["decimal"] = tables.number
    return environment.from_string(_resource("page.html"))


def _draws(run: Run) -> Draws:
    settings, usual = run.results.settings, Draws()
    return Draws(
        level=float(settings.get("level", usual.level)),
        resamples=int(settings.get("resamples", usual.resamples)),
        seed=int(settings.get("seed", usual.seed)),
    )


def _without_scores(run: Run) -> dict[str, Any]:
    empty = {"calibration": None, "boxes": None, "trends": None, "reliability": None, "roc": None}
    return empty | {"pairs": tables.told_pairs(run), "snr": tables.told_snr(run)}


def _from_scores(run: Run, scores: ScoreTable, draws: Draws) -> dict[str, Any]:
    calibrations = (counting.calibration(scores, series) for series in scores.series)
    found = [one for one in calibrations if one is not None]
    snr = scores.input_snr()
    trends = (counting.trend(scores, series, snr, draws) for series in run.main_series())
    return {
        "snr": tables.snr_table(scores, draws) if snr else None,
        "calibration": tables.calibration_table(found) if found else None,
        "pairs": tables.pair_tables(scores, draws),
        "boxes": _boxes(scores),
        "trends": _trends(run, [one for one in trends if one is not None]),
        **_presence_plots(run, [one for one in found if one.series.system == run.main]),
    }


def _boxes(scores: ScoreTable) -> Plot | None:
    from marssep.evaluate import plots

    spreads = [spread for one in scores.series if one.system != "mixture" and (spread := counting.box(scores, one))]
    if not spreads:
        return None
    entries = [(_heading(one.series), name_of(one.series.system), one) for one in spreads]
    headings = list(dict.fromkeys(heading for heading, _, _ in entries))
    entries.sort(key=lambda entry: headings.index(entry[0]))
    colours = {heading: _colour(one.series) for heading, _, one in entries}
    alt = "Box plot of SI-SDRi by kind of query. " + " ".join(
        f"{tables.series_name(one.series)}: median {tables.number(one.median)} dB." for one in spreads
    )
    caption = (
        "SI-SDRi of every query. Box: middle half; thick line: median; diamond: mean; "
        "thin line: 5th to 95th percentile."
    )
    return _plot(plots.box_plot(entries, colours=colours, alt=alt), caption)


def _trends(run: Run, trends: Sequence[counting.Trend]) -> Plot | None:
    if not trends:
        return None
    from marssep.evaluate import plots

    entries = [(f"{one.series.modality} query", _colour(one.series), one) for one in trends]
    alt = "SI-SDRi against input SNR. " + " ".join(
        f"By {one.series.modality}: mean {tables.number(one.mean_db[0])} dB for the softest targets, "
        f"{tables.number(one.mean_db[-1])} dB for the loudest."
        for one in trends
    )
    caption = (
        f"{name_of(run.main)}: each dot is one query; the line joins the means of equally many queries, and "
        "the band is their interval. Dots beyond the outermost 0.5 % lie outside the frame; of more than "
        f"{plots.MOST_DOTS:,} queries, evenly many are drawn."
    )
    return _plot(plots.trend_plot(entries, alt=alt), caption)


def _presence_plots(run: Run, curves: Sequence[counting.Calibration]) -> dict[str, Plot | None]:
    if not curves:
        return {"reliability": None, "roc": None}
    from marssep.evaluate import plots

    entries = [(one.series.modality or "none", _colour(one.series), one) for one in curves]
    errors = " ".join(
        f"By {name}: expected calibration error {tables.number(one.error, digits=3)}." for name, _, one in entries
    )
    areas = " ".join(f"By {name}: area {tables.number(one.area, digits=3)}." for name, _, one in entries)
    who = name_of(run.main)
    return {
        "reliability": _plot(
            plots.reliability_plot(entries, alt=f"Reliability diagram of presence. {errors}"),
            f"{who}: of the queries answered with a presence in each tenth, the share that is there. On the dashed "
            "line presence can be taken at its word. Below: how many queries each tenth holds.",
        ),
        "roc": _plot(
            plots.roc_plot(entries, alt=f"ROC curve of presence. {areas}"),
            f"{who}: present and absent sounds that are accepted as the threshold falls. The dashed line is guessing.",
        ),
    }


def _kept(run: Run, budget: int) -> dict[str, Any]:
    """Best, median and worst with spectrograms, then as many of the others as fit."""
    shown, others = [], []
    picked = best_median_worst(ranked(run))
    for what, entry in picked.items():
        drawn = _shown_in_full(run, what, entry)
        size = _size(drawn)
        if size <= budget:
            shown.append(drawn)
            budget -= size
    full = {entry.item.name for entry in picked.values()}
    left_out = len(picked) - len(shown)
    for item in (item for item in run.kept if item.name not in full):
        one = _shown(run, item) if budget > 0 else None
        if one is None or _size(one) > budget:
            budget, left_out = 0, left_out + 1  # the rest would be a gap-toothed choice of the short ones
            continue
        others.append(one)
        budget -= _size(one)
    return {"shown": shown, "others": others, "left_out": left_out, "n_kept": len(run.kept)}


def _shown(run: Run, item: KeptItem) -> Shown:
    return Shown(f"{item.label} ({item.name})", item.text, picture(run, item), None, tuple(players(run, item)))


def _shown_in_full(run: Run, what: str, entry: Ranked) -> Shown:
    from marssep.evaluate import plots

    item, audio = entry.item, read_kept_audio(run.folder, entry.item)
    estimate = tables.series_name(entry.series)
    gain = tables.number(entry.gain_db, sign=True)
    panels = {
        "mixture": audio.mixture,
        f"target: {item.label}": audio.reference,
        f"estimate: {estimate}": audio.estimates[entry.series.name],
    }
    alt = (
        f"Spectrograms of mixture, target and estimate for '{item.label}' in {item.mixture_id}: the estimate's SI-SDRi "
        f"is {gain} dB."
    )
    place = f"place {entry.place:,} of the run's {entry.n:,} queries by {entry.series.modality}"
    svg = plots.spectrogram_plot(panels, sample_rate=audio.sample_rate, name=what.lower(), alt=alt)
    return Shown(
        f"{what}: {item.label}, {gain} dB",
        item.text,
        picture(run, item),
        _plot(svg, f"{item.name}, {place}. One colour scale, the mixture's."),
        tuple(players(run, item, lossless=[entry.series.name])),
    )


def _size(shown: Shown) -> int:
    drawn = 0 if shown.plot is None else len(shown.plot.svg.encode())
    return drawn + len(shown.picture or "") + sum(len(player.uri) + 500 for player in shown.players)  # and its element


def _heading(series: Series) -> str:
    return "no query" if series.modality is None else f"{series.modality} query"


def _colour(series: Series) -> str:
    from marssep.evaluate import plots

    places = {"text": 0, "audio": 1, "image": 2, "composed": 3}
    return plots.MUTED if series.modality not in places else plots.COLOURS[places[series.modality]]


def _plot(svg: str, caption: str) -> Plot:
    from markupsafe import Markup

    return Plot(Markup(svg), caption)  # noqa: S704  # matplotlib escapes every text


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def _style_and_script() -> dict[str, Any]:
    from markupsafe import Markup

    script = _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    # The page may run this script and no other, so that a label could do no harm even where escaping failed.
    return {"style": Markup(_resource("page.css")), "script": Markup(script), "script_sha256": digest}  # noqa: S704


def _resource(name: str) -> str:
    return files("marssep.evaluate.report").joinpath(name).read_text(encoding="utf-8")
