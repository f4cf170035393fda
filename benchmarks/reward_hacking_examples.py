"""Write the examples of fooled separations: sounds, pictures, credits."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from PIL import Image

from marssep.corpus.mixing import MixtureSpec
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.separate.blocks import grid_power
from marssep.spectral import SpectralSettings, Spectrogram

_RANGE_DB = 60.0
_SPECTROGRAM = Spectrogram(SpectralSettings())


@dataclass(frozen=True)
class Example:
    """One attack on one mixture.

    Attributes:
        spec: the mixture.
        chosen: which source is the target.
        reward: name.
        attack: name.
        before: scores of the separator's output.
        after: scores of what the attack ended with.
        waves: mixture, target, start, fooled.
    """

    spec: MixtureSpec
    chosen: int
    reward: str
    attack: str
    before: dict[str, float]
    after: dict[str, float]
    waves: dict[str, np.ndarray]

    @property
    def gain(self) -> float:
        """Of reward."""
        return self.after["value"] - self.before["value"]

    @property
    def loss(self) -> float:
        """By which an example is worth showing: what SI-SDR and the judge say against it."""
        return (self.before["si_sdr_db"] - self.after["si_sdr_db"]) / 30 + self.before["judge"] - self.after["judge"]


def write_examples(examples: list[Example], folder: Path, corpus: Corpus) -> None:
    """Ogg files, a picture each, `README.md` with figures and credits."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        "# Separations that fool a reward",
        "",
        "Made by `benchmarks/reward_hacking.py`; figures in `examples.json`.",
        "",
    ]
    for number, example in enumerate(examples, 1):
        loudest = max(np.abs(wave).max() for wave in example.waves.values())
        for name, wave in example.waves.items():
            soundfile.write(folder / f"{number}-{name}.ogg", 0.9 * wave / loudest, CORPUS_RATE, subtype="VORBIS")
        draw(example, folder / f"{number}.png")
        lines += [*describe(number, example, corpus), ""]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")
    kept = [{"mixture": each.spec.id, "reward": each.reward, "attack": each.attack, "before": each.before,
             "after": each.after} for each in examples]  # fmt: skip
    (folder / "examples.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def describe(number: int, example: Example, corpus: Corpus) -> list[str]:
    """A paragraph, links, credits."""
    before, after = example.before, example.after
    files = ", ".join(f"[{name}]({number}-{name}.ogg)" for name in example.waves)
    credit = []
    for source in example.spec.sources:
        item = corpus.by_id[source.item]
        credit.append(f"* {source.label}: {item.source}, {item.licence}")
    return [
        f"## {number}. {example.reward}, attack `{example.attack}`: {example.spec.queries[example.chosen].text}",
        "",
        f"Reward {before['value']:.2f} → {after['value']:.2f}, SI-SDR {before['si_sdr_db']:.1f} → "
        f"{after['si_sdr_db']:.1f} dB, judge {before['judge']:.2f} → {after['judge']:.2f}. {files}",
        "",
        f"![spectrograms]({number}.png)",
        "",
        f"Mixture {example.spec.id} of `open-test`, made of",
        *credit,
    ]


def draw(example: Example, path: Path) -> None:
    """Four spectrograms side by side on one scale."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.4), layout="constrained")
    axes: Any = figure.subplots(1, len(example.waves), sharex=True, sharey=True)
    panels = {name: _decibels(wave) for name, wave in example.waves.items()}
    top = float(panels["mixture"].max())
    for axis, (name, values) in zip(axes, panels.items(), strict=True):
        axis.imshow(values, origin="lower", aspect="auto", cmap="magma", vmin=top - _RANGE_DB, vmax=top)
        axis.set_title(name, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    Image.open(buffer).convert("RGB").quantize(64).save(path, optimize=True)


def _decibels(wave: np.ndarray) -> np.ndarray:
    power = grid_power(torch.from_numpy(wave)[None], CORPUS_RATE, _SPECTROGRAM)
    return (10.0 * torch.log10(power + 1e-12)).numpy()
