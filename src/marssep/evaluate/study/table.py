"""The study's table in Markdown, and its picture."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marssep.errors import OutputError

_COLUMNS = {
    "si_sdri": ("SI-SDRi", 2),
    "si_sdri_audio": ("by audio", 2),
    "si_sdri_image": ("by image", 2),
    "si_sdri_composed": ("composed", 2),
    "judge": ("judge", 4),
    "text_similarity": ("text", 4),
    "recogniser": ("recogniser", 4),
}
_PAIRED = ("si_sdri", "judge", "text_similarity", "recogniser")


def study_table(found: Mapping[str, Any]) -> str:
    """Means of every row and paired differences to the warm start at its best logit scale, in Markdown."""
    facts = found["facts"]
    lines = [
        f"{facts['mixtures']} mixtures of `{facts['test']}`, warm start sha256 {facts['start'][:12]}, "
        f"{facts['date']}, torch {facts['versions']['torch']}.",
        "",
        "| row | seeds | scale | CPU s | " + " | ".join(name for name, _ in _COLUMNS.values()) + " |",
        "| --- |" + " --- |" * (len(_COLUMNS) + 3),
    ]
    for row in found["rows"]:
        figures = [f"{row['figures'][key]:.{places}f}" for key, (_, places) in _COLUMNS.items()]
        scale = "/".join(f"{each:g}" for each in row["scale"])
        head = f"| {row['name']} | {len(row['seeds'])} | {scale} | {row['cpu_seconds']:.0f} | "
        lines.append(head + " | ".join(figures) + " |")
    lines += ["", "| minus the warm start, paired | " + " | ".join(_COLUMNS[key][0] for key in _PAIRED) + " |"]
    lines.append("| --- |" + " --- |" * len(_PAIRED))
    for row in found["rows"]:
        if row["role"] != "start":
            cells = [_interval(row["against_start"][key], _COLUMNS[key][1]) for key in _PAIRED]
            lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    titles = {"gain_over_best_control": "gain over the best control", "gain_of_the_reward": "what the reward adds"}
    for part, title in titles.items():
        if part in found:
            lines += ["", f"| {title} | row | control | difference |", "| --- | --- | --- | --- |"]
        for key, gain in found.get(part, {}).items():
            row = gain.get("row", "reinforced")
            places = 2 if key.startswith("si_sdri") else 4
            lines.append(f"| {key} | {row} | {gain['control']} | {_interval(gain, places)} |")
    return "\n".join(lines) + "\n"


def draw_study(found: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Differences to the warm start with their intervals, a panel a figure.

    Raises:
        OutputError: if the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in found["rows"] if row["role"] != "start"]
    figure = Figure(figsize=(12, 0.3 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots(1, len(_PAIRED), sharey=True)
    for axis, key in zip(axes, _PAIRED, strict=True):
        for height, row in enumerate(reversed(rows)):
            difference = row["against_start"][key]
            colour = "tab:blue" if row["role"] == "reinforced" else "tab:gray"
            axis.plot([difference["low"], difference["high"]], [height, height], color=colour)
            axis.plot(difference["mean"], height, "o", color=colour, markersize=4)
        axis.axvline(0.0, color="black", linewidth=0.6)
        axis.set_title(f"{_COLUMNS[key][0]} minus warm start", fontsize=9)
        axis.tick_params(labelsize=8)
        _narrow(axis, [row["against_start"][key] for row in rows])
    axes[0].set_yticks(range(len(rows)), [row["name"] for row in reversed(rows)], fontsize=8)
    partial = Path(path).with_name(Path(path).name + ".partial")
    try:
        with partial.open("wb") as file:
            FigureCanvasAgg(figure).print_png(file)
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another file.") from None


def _narrow(axis: Any, differences: Sequence[Mapping[str, Any]]) -> None:
    """One collapsed row must not hide what the others do: the axis ends where most rows do."""
    spans = sorted(max(abs(each["low"]), abs(each["high"])) for each in differences)
    typical = spans[len(spans) * 3 // 4]
    if spans[-1] > 4.0 * typical > 0.0:
        axis.set_xlim(-3.0 * typical, 3.0 * typical)


def _interval(difference: Mapping[str, Any], places: int) -> str:
    mean, low, high = (difference[key] for key in ("mean", "low", "high"))
    star = "*" if low > 0.0 or high < 0.0 else ""
    return f"{mean:+.{places}f} [{low:+.{places}f}, {high:+.{places}f}]{star}"
