"""Draw a separation: mixture, target and residual on the log-frequency grid, and the mask."""

import io
import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from marssep.errors import OutputError
from marssep.separate.blocks import grid_power
from marssep.separate.separation import Separation

_RANGE_DB = 70.0
_TICKS_HZ = (0, 500, 1000, 2000, 4000, 8000, 16000)
# A screen has no more columns than this; longer recordings are averaged down.
_MOST_COLUMNS = 2000


def draw_separation(separation: Separation, path: str | os.PathLike[str]) -> None:
    """Write a PNG with four panels over the same time and frequency axes; the three spectrograms share one scale.

    Raises:
        OutputError: if the file cannot be written.
    """
    path = Path(path)
    figure = Figure(figsize=(11, 9), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True, sharey=True)
    mixture = _decibels(separation, separation.mixture)
    top = float(mixture.max())
    panels = {
        "mixture": mixture,
        f"target: {_asked_for(separation)}": _decibels(separation, separation.target),
        "residual": _decibels(separation, separation.residual),
    }
    extent = (0.0, separation.target.shape[-1] / separation.sample_rate, -0.5, len(separation.grid_mask) - 0.5)
    for axis, (title, values) in zip(axes, panels.items(), strict=False):
        image = axis.imshow(
            _shrink(values), origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=top - _RANGE_DB, vmax=top
        )
        axis.set_title(title, loc="left", fontsize=10, parse_math=False)  # a query may hold a dollar sign
    figure.colorbar(image, ax=list(axes[:3]), label="level (dB)")
    image = axes[3].imshow(
        _shrink(separation.grid_mask), origin="lower", aspect="auto", extent=extent, cmap="viridis", vmin=0, vmax=1
    )
    axes[3].set_title(f"mask (presence {separation.presence:.2f})", loc="left", fontsize=10)
    figure.colorbar(image, ax=axes[3], label="share kept")
    axes[3].set_xlabel("time (s)")
    _label_frequencies(axes, separation)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(buffer.getvalue())
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another output folder.") from None


def _decibels(separation: Separation, waveform: Float32[np.ndarray, "c n"]) -> np.ndarray:
    power = grid_power(torch.from_numpy(waveform), separation.sample_rate, separation.spectral).numpy()
    return 10.0 * np.log10(power + 1e-12)


def _shrink(values: np.ndarray) -> np.ndarray:
    factor = -(-values.shape[1] // _MOST_COLUMNS)
    starts = np.arange(0, values.shape[1], factor)
    return np.add.reduceat(values, starts, axis=1) / np.diff(np.append(starts, values.shape[1]))


def _asked_for(separation: Separation) -> str:
    query = separation.provenance.query
    words = [f"{kind} '{query[kind]}'" for kind in ("text", "audio", "image") if query.get(kind)]
    if query.get("negative"):
        words.append(f"not '{query['negative']}'")
    return ", ".join(words)


def _label_frequencies(axes: np.ndarray, separation: Separation) -> None:
    frequencies = separation.spectral.band_frequencies().numpy()
    highest = min(separation.sample_rate / 2, float(frequencies[-1]))
    ticks = [hertz for hertz in _TICKS_HZ if hertz <= highest]
    rows = np.interp(ticks, frequencies, np.arange(len(frequencies)))
    for axis in axes:
        axis.set_yticks(rows, [f"{hertz // 1000}k" if hertz >= 1000 else str(hertz) for hertz in ticks])
        axis.set_ylim(-0.5, np.interp(highest, frequencies, np.arange(len(frequencies))) + 0.5)
        axis.set_ylabel("Hz")
