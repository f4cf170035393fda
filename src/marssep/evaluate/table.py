"""A results file as the Markdown tables that README and docs include and `marssep report` prints."""

from collections.abc import Sequence

from marssep.evaluate.results import GATED, MODEL, ClassRow, Figure, Modality, Results, SystemRow

_NAMES = {
    "mixture": "mixture (doing nothing)",
    "oracle_grid": "oracle ratio mask, our grid",
    "oracle_stft": "oracle ratio mask, full STFT",
    "oracle_binary_grid": "oracle binary mask, our grid",
    "oracle_binary_stft": "oracle binary mask, full STFT",
    "nmf": "NMF",
    "hpss": "HPSS",
    "model": "marssep",
    "model_gated": "marssep, gated by presence",
}
"""What rows are called in tables; a row that is not here is called what it is."""

_GROUPS = ("instrument", "sound", "speech")


def markdown(results: Results, *, classes: bool = True) -> str:
    """All tables of a results file.

    Args:
        results: as read by `read_results`.
        classes: whether the long table of classes is included; classes below 0 dB are named in any case.
    """
    parts = [
        _head(results),
        _systems(results),
        _groups(results),
        _semantic(results),
        _strata(results),
        _paired(results),
        _comparisons(results),
        _presence(results),
        _harmed(results),
        _problems(results),
    ]
    if classes:
        parts.append(_classes(results))
    return "\n\n".join(part for part in parts if part) + "\n"


def brief(several: Sequence[Results]) -> str:
    """One table of the models on several lists: the figures that a reader asks for first, and a perfect mask's.

    Args:
        several: one for each list, in the order of the rows.
    """
    level = several[0].settings.get("absent_level_db", 15.0) if several else 15.0
    header = ["list (mixtures)", "system", *_KINDS, f"absent {level:g} dB down", "present kept"]
    rows = []
    for results in several:
        where = f"{results.mixtures.name} ({results.mixtures.n_mixtures})"
        for model in results.models or [results.model]:
            known = {row.modality: row for row in results.presence if row.system == model.row}
            heard = known.get("text")
            told = ["", ""] if heard is None else [_percent(heard.absent_suppressed), _percent(heard.kept)]
            cells = [results.row(model.row, modality) for modality in _ORDER]
            shown = ["" if cell is None else _interval(cell.si_sdr_improvement_db) for cell in cells]
            rows.append([where, f"`{model.name}`", *shown, *told])
        best = results.row("oracle_grid")
        if best is not None:
            shown = [_interval(best.si_sdr_improvement_db), *[""] * (len(header) - 3)]
            rows.append([where, name_of("oracle_grid"), *shown])
    return _table(header, rows) + "\n"


_KINDS = ("by text", "by example", "by picture", "by all")


def _head(results: Results) -> str:
    mixtures, model, versions = results.mixtures, results.model, results.versions
    sha = (model.sha256 or "none")[:12]
    level = round(100 * float(results.settings.get("level", 0.95)))
    others = [f"`{other.name}` (sha256 {(other.sha256 or 'none')[:12]})" for other in results.models[1:]]
    beside = f"Beside it: {', '.join(others)}. " if others else ""
    return (
        f"### {mixtures.name}\n\n"
        f"{mixtures.n_mixtures} mixtures, {mixtures.n_present} queries for sounds that are there, {mixtures.n_absent} "
        f"for absent ones (list sha256 {mixtures.sha256[:12]}). Model `{model.name}` (sha256 {sha}, "
        f"{model.parameters or 0:,} parameters, {results.date[:10]}, marssep {versions.get('marssep', '?')}, "
        f"torch {versions.get('torch', '?')}, {results.wall_seconds:.0f} s). "
        f"{beside}Means with {level} % bootstrap intervals over mixtures, in dB."
    )


def _systems(results: Results) -> str:
    rows = [row for row in results.systems if row.group == "all"]
    header = ["system", "query", "n", "SI-SDRi", "median", "SNR", "BSS-eval SDR / SIR / SAR (n)"]
    return _table(header, [_system_cells(row) for row in rows])


def _system_cells(row: SystemRow) -> list[str]:
    bss = row.bss
    return [
        name_of(row.system),
        row.modality or "",
        str(row.si_sdr_improvement_db.n),
        _interval(row.si_sdr_improvement_db),
        _decimal(row.si_sdr_improvement_db.median),
        "" if row.snr_db is None else _decimal(row.snr_db.mean),
        "" if bss is None else f"{_decimal(bss.sdr_db)} / {_decimal(bss.sir_db)} / {_decimal(bss.sar_db)} ({bss.n})",
    ]


def _groups(results: Results) -> str:
    header = ["SI-SDRi by group", "query", *_GROUPS]
    rows = []
    for row in (
        row
        for row in results.systems
        if row.group == "all" and row.system != "mixture" and not row.system.endswith(GATED)
    ):
        parts = [results.row(row.system, row.modality, group=group) for group in _GROUPS]
        cells = ["" if part is None else _with_n(part.si_sdr_improvement_db) for part in parts]
        if not any(cells):
            continue
        rows.append([name_of(row.system), row.modality or "", *cells])
    return _table(header, rows)


def _paired(results: Results) -> str:
    header = ["paired difference of SI-SDRi", "n", "mean"]
    rows = [
        [f"{row.modality} - {row.baseline}", str(row.difference_db.n), _interval(row.difference_db, sign=True)]
        for row in results.paired
    ]
    return _table(header, rows)


def name_of(system: str) -> str:
    """What a system's rows are called in tables."""
    if system.endswith(GATED) and system not in _NAMES:
        return f"{system.removesuffix(GATED)}, gated by presence"
    return _NAMES.get(system, system)


def _semantic(results: Results) -> str:
    rows = []
    for row in results.systems:
        figures = (row.text_score, row.audio_score, row.judge)
        if row.group == "all" and any(figure is not None for figure in figures):
            cells = ["" if figure is None else _interval(figure, digits=3) for figure in figures]
            rows.append([name_of(row.system), row.modality or "", *cells])
    return _table(["beyond the signal", "query", "text score", "audio score", "judge"], rows)


def _strata(results: Results) -> str:
    bounds = list(dict.fromkeys((row.low_db, row.high_db) for row in results.strata))
    bounds.sort(key=lambda bound: float("-inf") if bound[0] is None else bound[0])
    table: dict[tuple[str, str], dict[tuple[float | None, float | None], Figure]] = {}
    for row in results.strata:
        if row.system != "mixture":
            by_bound = table.setdefault((row.system, row.modality or ""), {})
            by_bound[row.low_db, row.high_db] = row.si_sdr_improvement_db
    rows = [
        [name_of(system), modality, *(_with_n(found[bound]) if bound in found else "" for bound in bounds)]
        for (system, modality), found in table.items()
    ]
    return _table(["SI-SDRi by input SNR (dB)", "query", *map(_bounds, bounds)], rows)


def _bounds(bound: tuple[float | None, float | None]) -> str:
    low, high = bound
    if low is None:
        return f"below {high:g}"
    return f"{low:g} and more" if high is None else f"{low:g} to {high:g}"


def _comparisons(results: Results) -> str:
    known = {row.row for row in results.models}
    header = ["paired difference of SI-SDRi between systems", "query", "n", "mean"]
    rows = [
        [
            f"{name_of(row.second)} - {name_of(row.first)}",
            row.modality or "",
            str(row.difference_db.n),
            _interval(_negative(row.difference_db), sign=True),
        ]
        for row in results.comparisons
        if row.second in known - {MODEL} or row.second not in known | set(_NAMES)
    ]
    return _table(header, rows)


def _negative(figure: Figure) -> Figure:
    """The same difference seen from the other side: a later row minus an earlier one."""

    def minus(value: float | None) -> float | None:
        return None if value is None else -value

    low, high = minus(figure.high), minus(figure.low)
    return figure.model_copy(update={"mean": minus(figure.mean), "low": low, "high": high})


def _problems(results: Results) -> str:
    if not results.problems:
        return ""
    shown = [
        f"* {' '.join(part for part in (row.mixture, _query(row.query), row.system) if part) or 'all'}: {row.what}"
        for row in results.problems[:_SHOWN_PROBLEMS]
    ]
    more = len(results.problems) - len(shown)
    shown += [f"* and {more} more, in the results file"] if more else []
    return f"Could not be scored ({len(results.problems)}); all the rest was:\n\n" + "\n".join(shown)


_SHOWN_PROBLEMS = 20


def _query(number: int | None) -> str:
    return "" if number is None else f"query {number}"


def _presence(results: Results) -> str:
    level = results.settings.get("absent_level_db", 15.0)
    several = len({row.system for row in results.presence}) > 1
    header = [
        "presence",
        "threshold",
        "ROC area",
        f"absent: target >= {level:g} dB below the mixture",
        "the same without the gate",
        "absent n",
        "present: share of SI-SDRi kept",
        "present rejected",
    ]
    rows = [
        [
            f"{name_of(row.system)}, {row.modality}" if several else row.modality,
            f"{row.threshold:.3f}",
            _decimal(row.area, digits=3),
            _percent(row.absent_suppressed),
            _percent(row.absent_suppressed_by_mask),
            str(row.absent_suppressed.n),
            _percent(row.kept),
            _percent(row.present_rejected),
        ]
        for row in results.presence
    ]
    return _table(header, rows)


def _harmed(results: Results) -> str:
    lines = []
    for modality in _modalities(results.classes):
        harmed = [row for row in results.classes if row.modality == modality and (_mean(row) or 0.0) < 0.0]
        named = ", ".join(
            f"{row.label} {_decimal(_mean(row))} ({row.si_sdr_improvement_db.n})"
            for row in sorted(harmed, key=_by_mean)
        )
        lines.append(f"Classes below 0 dB by {modality} (n): {named or 'none'}.")
    return "  \n".join(lines)


def _classes(results: Results) -> str:
    modalities = _modalities(results.classes)
    table: dict[tuple[str, str], dict[str, ClassRow]] = {}
    for row in results.classes:
        table.setdefault((row.group, row.label), {})[row.modality] = row
    rows = []
    for (group, label), by_modality in sorted(table.items()):
        cells = [_with_n(by_modality[one].si_sdr_improvement_db) if one in by_modality else "" for one in modalities]
        rows.append([label, group, *cells])
    return _table(["SI-SDRi by class", "group", *modalities], rows)


def _modalities(rows: Sequence[ClassRow]) -> list[Modality]:
    return list(dict.fromkeys(row.modality for row in sorted(rows, key=lambda row: _ORDER.index(row.modality))))


_ORDER: tuple[Modality, ...] = ("text", "audio", "image", "composed")


def _mean(row: ClassRow) -> float | None:
    return row.si_sdr_improvement_db.mean


def _by_mean(row: ClassRow) -> float:
    return _mean(row) or 0.0


def _with_n(figure: Figure) -> str:
    return f"{_interval(figure)} ({figure.n})" if figure.n else ""


def _interval(figure: Figure, *, digits: int = 2, sign: bool = False) -> str:
    text = _decimal(figure.mean, digits=digits, sign=sign)
    if figure.low is None or figure.high is None:
        return text
    low, high = (_decimal(value, digits=digits, sign=sign) for value in (figure.low, figure.high))
    return f"{text} [{low}, {high}]"


def _percent(figure: Figure) -> str:
    if figure.mean is None:
        return ""
    text = f"{100 * figure.mean:.1f} %"
    return (
        text
        if figure.low is None or figure.high is None
        else f"{text} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"
    )


def _decimal(value: float | None, *, digits: int = 2, sign: bool = False) -> str:
    if value is None:
        return ""
    rounded = round(value, digits) + 0.0  # no "-0.00"
    return f"{rounded:+.{digits}f}" if sign else f"{rounded:.{digits}f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
