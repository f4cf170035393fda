"""The plots of a report as inline SVG; the only file of the room that imports matplotlib.

Colours are written as placeholders and become CSS variables of the page, so that one plot serves light and dark; text
stays text; equal input gives equal bytes.
"""

import html
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Float, Float32
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from marssep.evaluate.report.counting import Box, Calibration, Trend
from marssep.separate.blocks import grid_power
from marssep.spectral import SpectralSettings, Spectrogram

INK, MUTED, LINE = "#010101", "#020202", "#030303"
COLOURS = ("#040404", "#050505", "#060606", "#070707")
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line"} | {
    colour: f"c{number}" for number, colour in enumerate(COLOURS, 1)
}
_WIDTH = 6.4  # inches of 72 units; the page shows them at its own width
_RANGE_DB = 70.0
_TICKS_HZ = (0, 500, 1000, 2000, 4000, 8000, 16000)
_MOST_COLUMNS = 600
MOST_DOTS = 1500
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "marssep",  # ids are drawn at random otherwise
    "text.parse_math": False,  # a label may hold a dollar sign
    "svg.fonttype": "none",
    "font.size": 11,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "axes.grid": False,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
}


def box_plot(boxes: Sequence[tuple[str, str, Box]], *, colours: Mapping[str, str], alt: str) -> str:
    """Horizontal boxes in groups.

    Args:
        boxes: heading of the group, name of the row and its spread, in the order of the page.
        colours: of each heading.
        alt: what the plot shows, for those who do not see it.
    """
    with _style():
        headings = list(dict.fromkeys(heading for heading, _, _ in boxes))
        figure = Figure(figsize=(_WIDTH, 0.8 + 0.3 * len(boxes) + 0.32 * len(headings)), layout="constrained")
        axes = figure.subplots()
        place, ticks = 0.0, []
        for heading in headings:
            axes.text(0.0, place, heading, transform=axes.get_yaxis_transform(), va="center", weight="bold")
            place -= 1.0
            for _, name, spread in (entry for entry in boxes if entry[0] == heading):
                _one_box(axes, place, spread, colours[heading])
                ticks.append((place, name))
                place -= 0.9
        axes.set_yticks([at for at, _ in ticks], [name for _, name in ticks])
        axes.set_ylim(place + 0.2, 0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.axvline(0.0, color=MUTED, linewidth=0.8)
        axes.grid(axis="x", linewidth=0.6)
        axes.set_xlabel("SI-SDRi (dB)")
        return _svg(figure, "box", alt)


def trend_plot(trends: Sequence[tuple[str, str, Trend]], *, alt: str) -> str:
    """SI-SDRi against input SNR, one panel each.

    Args:
        trends: title, colour and points of each panel.
        alt: as in `box_plot`.
    """
    with _style():
        rows = -(-len(trends) // 2)
        columns = min(2, len(trends))
        figure = Figure(figsize=(_WIDTH, 0.5 + 2.3 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
        gains = np.concatenate([trend.gain_db for _, _, trend in trends])
        low, high = np.percentile(gains, [0.5, 99.5])
        for axes, (title, colour, trend) in zip(panels, trends, strict=False):
            chosen = np.linspace(0, len(trend.snr_db) - 1, min(MOST_DOTS, len(trend.snr_db))).astype(int)
            axes.scatter(trend.snr_db[chosen], trend.gain_db[chosen], s=7, color=colour, alpha=0.4, linewidths=0)
            axes.axhline(0.0, color=MUTED, linewidth=0.8)
            axes.fill_between(trend.at_db, trend.low_db, trend.high_db, color=colour, alpha=0.3, linewidth=0)
            axes.plot(trend.at_db, trend.mean_db, color=INK, marker="o", markersize=3, linewidth=1.4)
            axes.set_title(title)
            axes.grid(linewidth=0.6)
            axes.set_ylim(low - 2.0, high + 2.0)
        for axes in list(panels)[len(trends) :]:
            axes.set_visible(False)
        figure.supxlabel("input SNR of the target (dB)", fontsize=11)
        figure.supylabel("SI-SDRi (dB)", fontsize=11)
        return _svg(figure, "trend", alt)


def reliability_plot(curves: Sequence[tuple[str, str, Calibration]], *, alt: str) -> str:
    """Share of sounds that are there against the presence that was stated, and how often it was.

    Args:
        curves: name, colour and figures of each line.
        alt: as in `box_plot`.
    """
    with _style():
        figure = Figure(figsize=(4.6, 5.2), layout="constrained")
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1)
        width = 1.0 / (len(curves) + 1)
        for index, (name, colour, curve) in enumerate(curves):
            known = curve.count > 0
            axes.plot(curve.stated[known], curve.found[known], color=colour, marker="o", markersize=4, label=name)
            edges = (np.arange(curve.count.size) + (index + 1) * width) / curve.count.size
            below.bar(edges, curve.count, width=0.8 * width / curve.count.size, color=colour)
        axes.set_ylabel("share that is there")
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlim(-0.02, 1.02)
        axes.grid(linewidth=0.6)
        figure.legend(loc="outside upper left", ncols=4, columnspacing=1.2, handlelength=1.4)
        below.set_xlabel("presence stated")
        below.set_ylabel("queries")
        return _svg(figure, "reliability", alt)


def roc_plot(curves: Sequence[tuple[str, str, Calibration]], *, alt: str) -> str:
    """Present queries accepted against absent queries accepted, over all thresholds; arguments as above."""
    with _style():
        figure = Figure(figsize=(4.6, 5.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle="--", linewidth=1)
        for name, colour, curve in curves:
            label = f"{name}, area {curve.area:.3f}"
            axes.plot(curve.false_positive, curve.true_positive, color=colour, linewidth=1.6, label=label)
        axes.set_xlabel("share of absent sounds accepted")
        axes.set_ylabel("share of present sounds accepted")
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlim(-0.02, 1.02)
        axes.grid(linewidth=0.6)
        axes.legend(loc="lower right")
        return _svg(figure, "roc", alt)


def spectrogram_plot(panels: Mapping[str, Float32[np.ndarray, "c n"]], *, sample_rate: int, name: str, alt: str) -> str:
    """Spectrograms above each other on the log-frequency grid, all on the scale of the first.

    Args:
        panels: waveforms by their titles.
        sample_rate: Hz.
        name: tells its parts from those of other plots on the page.
        alt: as in `box_plot`.
    """
    spectral = Spectrogram(SpectralSettings(frames_per_step=1))
    powers = {
        title: 10.0 * np.log10(_shrink(grid_power(torch.from_numpy(waveform), sample_rate, spectral).numpy()) + 1e-12)
        for title, waveform in panels.items()
    }
    seconds = next(iter(panels.values())).shape[-1] / sample_rate
    hertz = spectral.band_frequencies().numpy()
    top = float(next(iter(powers.values())).max())
    highest = min(sample_rate / 2, float(hertz[-1]))
    with _style():
        figure = Figure(figsize=(_WIDTH, 0.7 + 1.6 * len(powers)), layout="constrained")
        stack = figure.subplots(len(powers), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (title, values) in zip(stack, powers.items(), strict=True):
            image = axes.imshow(
                values,
                origin="lower",
                aspect="auto",
                extent=(0.0, seconds, -0.5, len(hertz) - 0.5),
                cmap="magma",
                vmin=top - _RANGE_DB,
                vmax=top,
                interpolation="none",
            )
            axes.set_title(title)
            ticks = [tick for tick in _TICKS_HZ if tick <= highest]
            named = [f"{tick // 1000}k" if tick >= 1000 else str(tick) for tick in ticks]
            axes.set_yticks(np.interp(ticks, hertz, np.arange(len(hertz))), named)
            axes.set_ylim(-0.5, np.interp(highest, hertz, np.arange(len(hertz))) + 0.5)
        figure.colorbar(image, ax=list(stack), label="level (dB)", aspect=40)
        stack[-1].set_xlabel("time (s)")
        figure.supylabel("frequency (Hz)", fontsize=11)
        return _svg(figure, name, alt)


def _one_box(axes: Axes, place: float, spread: Box, colour: str) -> None:
    axes.hlines(place, spread.p5, spread.p95, color=colour, linewidth=1.2)
    axes.barh(place, spread.p75 - spread.p25, left=spread.p25, height=0.56, color=colour, alpha=0.35, linewidth=0)
    axes.vlines(spread.median, place - 0.28, place + 0.28, color=colour, linewidth=2.2)
    axes.plot([spread.mean], [place], marker="D", markersize=4, color=INK, linestyle="none")


def _shrink(values: Float[np.ndarray, "bands steps"]) -> Float[np.ndarray, "bands columns"]:
    factor = -(-values.shape[1] // _MOST_COLUMNS)
    starts = np.arange(0, values.shape[1], factor)
    return np.add.reduceat(values, starts, axis=1) / np.diff(np.append(starts, values.shape[1]))


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # The reader's browser has the letters that the font used for measuring lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _svg(figure: Figure, name: str, alt: str) -> str:
    """The figure as an `<svg>` element whose ids are its own and whose colours are the page's."""
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    width, height = (72 * float(size) for size in figure.get_size_inches())
    label = html.escape(alt, quote=True)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-label="{label}" viewBox="0 0 {width:g} {height:g}" style="max-width:{1.45 * width:.0f}px">'
    )
    text = opening + text[text.index(">") + 1 :]
    text = re.sub(r'(\sid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    return text.strip()
