"""Mixtures as data: which recordings, from where, how loud; drawn by seed and index, rendered the same anywhere."""

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.fft

from marssep.corpus.labels import family_of
from marssep.corpus.manifest import Group, Item
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.errors import CorpusError
from marssep.settings import Settings

REFERENCE_RMS = 0.05  # of a source at 0 dB: -26 dBFS, so that four sources rarely pass full scale
ACTIVE_FRAME_SECONDS = 0.05
"""Of the frames that `active_rms` takes or leaves."""
_FRAME = round(ACTIVE_FRAME_SECONDS * CORPUS_RATE)


class MixingSettings(Settings):
    """How mixtures are drawn."""

    n_sources: tuple[float, float, float, float] = (0.1, 0.5, 0.25, 0.15)
    """Chances of 1, 2, 3 and 4 sources."""
    level_range_db: float = 10.0
    """The first source is at 0 dB, the others lie uniformly within plus or minus this."""
    groups: dict[Group, float] = {"instrument": 0.4, "sound": 0.5, "speech": 0.1}
    """Chance of a source's group; within it labels are equally likely, and recordings within a label."""
    background: float = 0.2
    """Share of mixtures with coloured noise behind them."""
    background_range_db: tuple[float, float] = (-35.0, -12.0)
    """Level of that noise."""
    speed: float = 0.0
    """Recordings are played up to this fraction faster or slower (training only; 0.12 is two semitones)."""


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """One sound of a mixture.

    Attributes:
        item: id of the recording.
        label: its class.
        start: where in the recording it begins, seconds.
        delay: where in the mixture it begins, seconds.
        gap: silence before the recording is repeated, seconds; it repeats until the mixture ends.
        level_db: level of its active parts relative to -26 dBFS RMS.
        speed: playing speed; 1 leaves the recording as it is.
    """

    item: str
    label: str
    start: float
    delay: float
    gap: float
    level_db: float
    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class QuerySpec:
    """How one sound is asked for.

    Attributes:
        label: class asked for.
        text: the plain prompt.
        audio: id of another recording of the class, if there is one.
        image: id of a picture of the class, if there is one.
    """

    label: str
    text: str
    audio: str | None
    image: str | None


@dataclass(frozen=True, slots=True)
class MixtureSpec:
    """A mixture, its sources, one query per source and possibly one for a sound that is absent.

    Attributes:
        id: name within its list.
        duration: seconds.
        background_db: level of the noise behind the sources, None for none.
        noise_seed: seed of that noise.
    """

    id: str
    duration: float
    sources: tuple[SourceSpec, ...]
    queries: tuple[QuerySpec, ...]
    absent: QuerySpec | None = None
    background_db: float | None = None
    noise_seed: int = 0


@dataclass(frozen=True, slots=True)
class RenderedMixture:
    """Waveforms of a mixture, float32 at one rate; `mixture` is the sum of `sources` and `background`.

    Attributes:
        mixture: [n].
        sources: [s, n].
        background: [n], zeros if there is none.
    """

    mixture: np.ndarray
    sources: np.ndarray
    background: np.ndarray


class MixtureSampler:
    """Draws mixtures from one split of a corpus, reproducibly by index.

    Args:
        corpus: where the recordings are.
        split: whose recordings are used, for sources and for queries.
        settings: how mixtures are drawn.
        duration: of every mixture, seconds.
        seed: with the index, decides everything.
        picture_split: whose pictures are used for queries; the same split if not given.

    Raises:
        CorpusError: if the split holds sounds of fewer than two families.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        split: str,
        settings: MixingSettings,
        duration: float,
        seed: int = 0,
        picture_split: str | None = None,
    ) -> None:
        self.settings, self.duration, self.seed, self._corpus = settings, duration, seed, corpus
        self._sounds = _by_label(corpus.select(kind="audio", split=split))
        self._pictures = _by_label(corpus.select(kind="image", split=picture_split or split))
        # a search among the items of a label, with every mixture, would be the slowest part of a large corpus
        self._places: dict[tuple[str, str], list[int]] = {}
        for label, items in self._sounds.items():
            for place, item in enumerate(items):
                self._places.setdefault((item.recording, label), []).append(place)
        self._use(self._sounds, f"split '{split}'")

    def _use(self, sources: Mapping[str, list[Item]], where: str) -> None:
        """Take sources from these recordings."""
        self._sources = sources
        self._labels: dict[Group, list[str]] = defaultdict(list)
        for label, items in sorted(sources.items()):
            self._labels[items[0].group].append(label)
        if len({family_of(label) for label in sources}) < 2:
            raise CorpusError(f"{where}: needs sounds of at least two families to mix, has {list(sources)}.")
        groups = [group for group in self.settings.groups if self._labels[group] and self.settings.groups[group] > 0]
        weights = np.array([self.settings.groups[group] for group in groups])
        self._groups, self._weights = groups, weights / weights.sum()

    def within(self, items: Sequence[Item]) -> Self:
        """The same sampler with sources from these recordings of its split alone; queries still from the whole split.

        Raises:
            CorpusError: if they are of fewer than two families.
        """
        narrower = copy.copy(self)
        narrower._use(_by_label(items), "streaming: a window of shards")
        return narrower

    def draw(self, index: int, *, n_sources: int | None = None) -> MixtureSpec:
        """The mixture of an index; `n_sources` overrides the drawn number."""
        rng = np.random.default_rng((self.seed, index))
        wanted = n_sources or 1 + int(rng.choice(4, p=np.array(self.settings.n_sources) / sum(self.settings.n_sources)))
        labels = self._draw_labels(rng, wanted)
        sources = tuple(self.draw_source(rng, label, first=k == 0) for k, label in enumerate(labels))
        queries = tuple(self.draw_query(rng, source.label, source.item) for source in sources)
        absent = self._draw_labels(rng, 1, taken=labels)
        background = rng.random() < self.settings.background
        return MixtureSpec(
            id=f"{index:06d}",
            duration=self.duration,
            sources=sources,
            queries=queries,
            absent=self.draw_query(rng, absent[0], None) if absent else None,
            background_db=round(rng.uniform(*self.settings.background_range_db), 2) if background else None,
            noise_seed=int(rng.integers(2**31)),
        )

    def draw_query(self, rng: np.random.Generator, label: str, own_item: str | None) -> QuerySpec:
        """A query for `label` by another recording than `own_item` and by a picture, where the split has them."""
        sounds, pictures = self._sounds[label], self._pictures.get(label, ())
        own = () if own_item is None else self._places.get((self._corpus.by_id[own_item].recording, label), ())
        others = len(sounds) - len(own)
        audio = int(rng.integers(others)) if others else 0
        for place in own:  # counts over the places of its own recording
            audio += place <= audio
        return QuerySpec(
            label=label,
            text=sounds[0].captions[0],
            audio=sounds[audio].id if others else None,
            image=pictures[rng.integers(len(pictures))].id if pictures else None,
        )

    def draw_source(self, rng: np.random.Generator, label: str, *, first: bool) -> SourceSpec:
        """A recording of `label`, where it begins and how loud it is; the first of a mixture is at 0 dB."""
        items = self._sources[label]
        item = items[rng.integers(len(items))]
        spread, speed = self.settings.level_range_db, self.settings.speed
        longer = max(0.0, item.duration - self.duration)
        return SourceSpec(
            item=item.id,
            label=label,
            start=round(rng.uniform(0.0, longer), 3),
            delay=round(rng.uniform(0.0, 0.4 * self.duration), 3) if rng.random() < 0.3 else 0.0,
            gap=round(rng.uniform(0.05, 1.0), 3),
            level_db=0.0 if first else round(rng.uniform(-spread, spread), 2),
            speed=round(float(np.exp(rng.uniform(-speed, speed))), 3) if speed else 1.0,
        )

    def _draw_labels(self, rng: np.random.Generator, wanted: int, taken: Sequence[str] = ()) -> list[str]:
        """Up to `wanted` labels of different families, none of a family in `taken`."""
        families = {family_of(label) for label in taken}
        labels: list[str] = []
        for _ in range(100):
            group = self._groups[rng.choice(len(self._groups), p=self._weights)]
            label = self._labels[group][rng.integers(len(self._labels[group]))]
            if family_of(label) not in families:
                families.add(family_of(label))
                labels.append(label)
            if len(labels) == wanted:
                break
        return labels


def render(spec: MixtureSpec, corpus: Corpus) -> RenderedMixture:
    """Waveforms of a mixture at `CORPUS_RATE`."""
    n_samples = round(spec.duration * CORPUS_RATE)
    sources = np.stack([render_source(source, corpus, n_samples) for source in spec.sources])
    background = np.zeros(n_samples, np.float32)
    if spec.background_db is not None:
        background = coloured_noise(n_samples, np.random.default_rng(spec.noise_seed))
        background *= np.float32(REFERENCE_RMS * 10 ** (spec.background_db / 20))
    return RenderedMixture(sources.sum(0) + background, sources, background)


def render_source(source: SourceSpec, corpus: Corpus, n_samples: int) -> np.ndarray:
    """Waveform of one source, float32 [n_samples] at `CORPUS_RATE`."""
    start = round(source.start * CORPUS_RATE)
    waveform = corpus.audio(source.item, start=start, length=round(source.speed * n_samples) + 1)
    if source.speed != 1.0:
        waveform = play_faster(waveform, source.speed)
    out = np.zeros(n_samples, np.float32)
    position = round(source.delay * CORPUS_RATE)
    while position < n_samples and len(waveform):
        piece = waveform[: n_samples - position]
        out[position : position + len(piece)] = piece
        position += len(waveform) + round(source.gap * CORPUS_RATE)
    out *= np.float32(REFERENCE_RMS * 10 ** (source.level_db / 20) / max(active_rms(out), 1e-5))
    return out


def play_faster(waveform: np.ndarray, speed: float) -> np.ndarray:
    """A waveform read `speed` times as fast between its samples, linearly; the speed counts to a thousandth.

    So 1000 read samples lie over a whole number of given ones, and their places between them are the same in every
    such stretch: computed once, not for every sample, which was most of the time of a mixture.
    """
    step = round(1000 * speed)
    count = max(0, -(-1000 * (len(waveform) - 1) // step))
    stretches = -(-count // 1000)
    padded = np.zeros(stretches * step + 1, np.float32)
    kept = min(len(waveform), len(padded))
    padded[:kept] = waveform[:kept]
    places, between = np.divmod(np.arange(1000) * step, 1000)
    before, after = (
        padded[first : len(padded) - 1 + first].reshape(stretches, step).take(places, axis=1, mode="clip")
        for first in (0, 1)
    )
    after -= before
    after *= (between / 1000).astype(np.float32)
    after += before
    return after.reshape(-1)[:count]


def active_rms(waveform: np.ndarray) -> float:
    """RMS over the 50 ms frames within 40 dB of the loudest one, so that pauses do not make a sound louder."""
    whole = waveform[: len(waveform) // _FRAME * _FRAME].reshape(-1, _FRAME)
    if not len(whole):
        return float(np.sqrt(np.mean(np.square(waveform)))) if len(waveform) else 0.0
    power = np.einsum("fn,fn->f", whole, whole) / _FRAME
    return float(np.sqrt(power[power >= 1e-4 * power.max()].mean()))


def coloured_noise(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of RMS 1 whose power falls by 0 to 6 dB per octave (white to brown)."""
    rows = n_samples // 2 + 1
    # Even numbers in every row of the spectrum: their sum over rows is as good as normal, and ten times as cheap.
    spectrum = (rng.random(2 * rows, dtype=np.float32) - np.float32(0.5)).view(np.complex64)
    spectrum *= np.maximum(np.arange(rows, dtype=np.float32), 1.0) ** np.float32(-rng.uniform(0.0, 1.0))
    noise: np.ndarray = scipy.fft.irfft(spectrum, n_samples)
    return noise / np.sqrt(np.mean(np.square(noise)))


def _by_label(items: Sequence[Item]) -> Mapping[str, list[Item]]:
    labels: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        labels[item.label].append(item)
    return labels
