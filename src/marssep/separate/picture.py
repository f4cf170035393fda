"""Draw a separation: mixture, target and residual on the log-frequency grid, and the mask."""

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from marssep.errors import OutputError
from marssep.query import describe_region
from marssep.separate.blocks import block_power, walk
from marssep.separate.probing import Probe
from marssep.separate.sources import Source
from marssep.spectral import Spectrogram

_RANGE_DB = 70.0
_TICKS_HZ = (0, 500, 1000, 2000, 4000, 8000, 16000)
# A screen has no more columns than this; longer recordings are averaged down.
_MOST_COLUMNS = 2000


@dataclass(frozen=True)
class Scene:
    """What a picture shows.

    Attributes:
        waveforms: by the titles of their panels, the mixture first.
        mask: columns of the mask on the grid, in order and in pieces of any length.
        length: samples per channel.
        presence: probability that the sound is there.
        spectral: way between waveform and grid.
        doubt: columns of its uncertainty, as those of the mask; None leaves that panel out.
    """

    waveforms: Mapping[str, Source]
    mask: Iterable[Float[Tensor, "bands _"]]
    length: int
    presence: float
    spectral: Spectrogram
    doubt: Iterable[Float[Tensor, "bands _"]] | None = None


@torch.inference_mode()
def draw_probes(
    source: Source, probes: Sequence[Probe], path: str | os.PathLike[str], *, spectral: Spectrogram
) -> None:
    """Write a PNG with the recording's spectrogram and, for every query, confidence and similarity over time.

    Raises:
        OutputError: if the file cannot be written.
    """
    figure = Figure(figsize=(11, 3.0 + 1.8 * len(probes)), layout="constrained")
    axes = figure.subplots(1 + len(probes), 1, sharex=True, squeeze=False, height_ratios=[2.0] + [1.2] * len(probes))[
        :, 0
    ]
    duration = probes[0].duration
    n_steps = spectral.n_steps(spectral.n_frames(round(duration * source.sample_rate), source.sample_rate))
    values = 10.0 * np.log10(_shrink(_powers(source, spectral), n_steps) + 1e-12)
    top = max(float(values.max()), -110.0)
    extent = (0.0, duration, -0.5, len(values) - 0.5)
    axes[0].imshow(values, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=top - _RANGE_DB, vmax=top)
    axes[0].set_title(source.name, loc="left", fontsize=10, parse_math=False)
    _label_frequencies(axes[:1], spectral, source.sample_rate)
    edges = [*map(float, range(len(probes[0].confidence))), duration]
    for axis, each in zip(axes[1:], probes, strict=True):
        heard = [np.nan if value is None else value for value in each.similarity]
        axis.stairs(each.confidence, edges, fill=True, alpha=0.5, label="confidence")
        axis.stairs(heard, edges, baseline=None, color="black", label="similarity (cosine)")
        verdict = "there" if each.present else "absent"
        title = f"{asked_for(each.query)}: {verdict}, presence {each.presence:.2f}"
        axis.set_title(title, loc="left", fontsize=10, parse_math=False)
        axis.set_ylim(min(0.0, *np.nan_to_num(heard)), 1.0)
    axes[1].legend(loc="upper right", fontsize=8)
    axes[-1].set_xlabel("time (s)")
    _write(figure, Path(path))


@torch.inference_mode()
def draw_scene(scene: Scene, path: str | os.PathLike[str]) -> None:
    """Write a PNG with panels over the same time and frequency axes; the three spectrograms share one scale.

    Raises:
        OutputError: if the file cannot be written.
    """
    n_panels = 4 if scene.doubt is None else 5
    figure = Figure(figsize=(11, 2.25 * n_panels), layout="constrained")
    axes = figure.subplots(n_panels, 1, sharex=True, sharey=True)
    sample_rate = next(iter(scene.waveforms.values())).sample_rate
    n_steps = scene.spectral.n_steps(scene.spectral.n_frames(scene.length, sample_rate))
    powers = {title: _shrink(_powers(each, scene.spectral), n_steps) for title, each in scene.waveforms.items()}
    panels = {title: 10.0 * np.log10(power + 1e-12) for title, power in powers.items()}
    mask = _shrink(scene.mask, n_steps)
    top = max(float(next(iter(panels.values())).max()), -110.0)
    extent = (0.0, scene.length / sample_rate, -0.5, len(mask) - 0.5)
    for axis, (title, values) in zip(axes, panels.items(), strict=False):
        image = axis.imshow(
            values, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=top - _RANGE_DB, vmax=top
        )
        axis.set_title(title, loc="left", fontsize=10, parse_math=False)  # a query may hold a dollar sign
    figure.colorbar(image, ax=list(axes[:3]), label="level (dB)")
    image = axes[3].imshow(mask, origin="lower", aspect="auto", extent=extent, cmap="viridis", vmin=0, vmax=1)
    axes[3].set_title(f"mask (presence {scene.presence:.2f})", loc="left", fontsize=10)
    figure.colorbar(image, ax=axes[3], label="share kept")
    if scene.doubt is not None:
        doubt = _shrink(scene.doubt, n_steps)
        image = axes[4].imshow(doubt, origin="lower", aspect="auto", extent=extent, cmap="viridis")
        axes[4].set_title("spread of the Beta policy around the mask", loc="left", fontsize=10)
        figure.colorbar(image, ax=axes[4], label="standard deviation")
    axes[-1].set_xlabel("time (s)")
    _label_frequencies(axes, scene.spectral, sample_rate)
    _write(figure, Path(path))


def asked_for(query: Mapping[str, Any]) -> str:
    """A query, as `describe_query` has it, as the title of a panel."""
    words = [f"{kind} '{query[kind]}'" for kind in ("text", "audio", "image") if query.get(kind)]
    words += [f"like {describe_region((begin, end))}" for begin, end in query.get("like") or ()]
    words += [f"not '{unwanted}'" for unwanted in query.get("negative") or ()]
    return ", ".join(words)


def _write(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(buffer.getvalue())
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another output folder.") from None


def _powers(source: Source, spectral: Spectrogram) -> Iterable[Tensor]:
    for block, excerpt in walk(source.pieces(), source.sample_rate, spectral):
        yield block_power(block, excerpt.float(), source.sample_rate, spectral)


def _shrink(pieces: Iterable[Tensor], n_steps: int) -> np.ndarray:
    """Columns averaged down to what a screen shows."""
    factor = -(-n_steps // _MOST_COLUMNS)
    total = counts = None
    at = 0
    for piece in pieces:
        if total is None or counts is None:
            total, counts = torch.zeros(len(piece), -(-n_steps // factor)), torch.zeros(-(-n_steps // factor))
        places = torch.arange(at, at + piece.shape[-1]) // factor
        total.index_add_(1, places, piece)
        counts.index_add_(0, places, torch.ones(len(places)))
        at += piece.shape[-1]
    assert total is not None
    assert counts is not None
    made: np.ndarray = (total / counts).numpy()
    return made


def _label_frequencies(axes: np.ndarray, spectral: Spectrogram, sample_rate: int) -> None:
    frequencies = spectral.band_frequencies().numpy()
    highest = min(sample_rate / 2, float(frequencies[-1]))
    ticks = [hertz for hertz in _TICKS_HZ if hertz <= highest]
    rows = np.interp(ticks, frequencies, np.arange(len(frequencies)))
    for axis in axes:
        axis.set_yticks(rows, [f"{hertz // 1000}k" if hertz >= 1000 else str(hertz) for hertz in ticks])
        axis.set_ylim(-0.5, np.interp(highest, frequencies, np.arange(len(frequencies))) + 0.5)
        axis.set_ylabel("Hz")
