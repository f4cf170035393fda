"""Training batches rendered on the device: workers draw numbers, and all sounds lie in the device's memory.

The same mixtures as `train.batches` makes of the same numbers: played, repeated, levelled, coloured and pooled by the
same rules. At another rate than the corpus's, sounds are resampled once instead of every mixture; the noise behind
some mixtures follows the same law but comes from the device's own generator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from marssep.audio import resample
from marssep.corpus.mixing import ACTIVE_FRAME_SECONDS, REFERENCE_RMS, SourceSpec
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.errors import SettingsError
from marssep.model import normalise
from marssep.train.batches import Batch, NumberedBatches, TrainingGrid, inner
from marssep.train.examples import KNOTS, Embeddings, Example, knot_position
from marssep.train.losses import GridTargets
from marssep.train.settings import SupervisedSettings


@dataclass(frozen=True, slots=True)
class Drawn:
    """A batch as numbers, for `DeviceMixer`; letters: r recording played, s row of a spectrum, b mixture, q query.

    Attributes:
        start: first sample of a recording in `Sounds.samples`.
        count: samples it has once played at its speed.
        speed: thousandths.
        delay: samples before it begins in the mixture.
        gap: samples of silence before it is repeated.
        level_db: of its active parts, relative to `REFERENCE_RMS`.
        row: the spectrum row it belongs to; layers share that of their source.
        owner: mixture that a row belongs to.
        knots: of the row's colouring curve.
        noise_row: rows that are noise.
        noise_db: level of that.
        noise_seed: seed of that.
        limit: of a mixture, hertz; infinite for none.
        level: factor of its powers.
        asked: row of each query; -1 for an absent sound.
        query: embeddings.
        labels: class of every query, by mixture.
    """

    start: np.ndarray
    count: np.ndarray
    speed: np.ndarray
    delay: np.ndarray
    gap: np.ndarray
    level_db: np.ndarray
    row: np.ndarray
    owner: np.ndarray
    knots: np.ndarray
    noise_row: np.ndarray
    noise_db: np.ndarray
    noise_seed: np.ndarray
    limit: np.ndarray
    level: np.ndarray
    asked: np.ndarray
    query: np.ndarray
    labels: tuple[tuple[str, ...], ...]

    def tensors(self, device: torch.device) -> dict[str, Tensor]:
        """All arrays on a device."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "labels"}
        given = {name: torch.from_numpy(array) for name, array in arrays.items()}
        if device.type == "cuda":  # only from pinned memory does a copy not wait for the device's work
            given = {name: tensor.pin_memory() for name, tensor in given.items()}
        return {name: tensor.to(device, non_blocking=True) for name, tensor in given.items()}


@dataclass(frozen=True)
class Sounds:
    """All recordings of some splits, one after another.

    Attributes:
        samples: int16 [n], mono at `sample_rate`.
        spans: id -> first sample and how many.
        sample_rate: hertz.
    """

    samples: np.ndarray
    spans: Mapping[str, tuple[int, int]]
    sample_rate: int

    @classmethod
    def gather(cls, corpus: Corpus, splits: Sequence[str], sample_rate: int) -> "Sounds":
        """Read them all, about 0.23 GB an hour at 32 kHz.

        Raises:
            SettingsError: if the corpus is streamed.
        """
        if corpus.streaming:
            raise SettingsError("mixing_on = 'device' holds all sounds, streaming.shards a few; choose one of them.")
        pieces, spans, total = [], {}, 0
        for split in splits:
            for item in corpus.select(kind="audio", split=split):
                waveform = corpus.audio(item.id)
                if sample_rate != CORPUS_RATE:
                    waveform = resample(waveform[None], from_rate=CORPUS_RATE, to_rate=sample_rate)[0]
                pieces.append(np.round(np.clip(waveform * 32768.0, -32768.0, 32767.0)).astype(np.int16))
                spans[item.id] = total, len(waveform)
                total += len(waveform)
        # One more, since samples are read in pairs.
        return cls(np.concatenate([*pieces, np.zeros(1, np.int16)]), spans, sample_rate)


class DrawnBatches(NumberedBatches[Drawn]):
    """Batch number k as numbers; arguments as `NumberedBatches`, and where the sounds lie."""

    def __init__(
        self, corpus: Corpus, bank: Embeddings, settings: SupervisedSettings, sounds: Sounds, *, parts: int = 1
    ) -> None:
        super().__init__(corpus, bank, settings, parts=parts)
        self.spans, self.rate = sounds.spans, sounds.sample_rate

    def collate(self, examples: Sequence[Example]) -> Drawn:
        """Examples as numbers."""
        played: list[tuple[int, int, int, int, int, float, int]] = []
        owner: list[int] = []
        noise: list[tuple[int, float, int]] = []
        asked: list[list[int]] = []
        for number, example in enumerate(examples):
            first, spec = len(owner), example.spec
            sources = list(enumerate(spec.sources)) + ([example.layer] if example.layer else [])
            played.extend((*self._place(source), source.level_db, first + k) for k, source in sources)
            owner.extend([number] * len(spec.sources))
            if spec.background_db is not None:
                noise.append((len(owner), spec.background_db, spec.noise_seed))
                owner.append(number)
            asked.append([-1 if k is None else first + k for _, k in example.asked])
        start, count, speed, delay, gap, level_db, row = (np.array(column) for column in zip(*played, strict=True))
        noise_row, noise_db, noise_seed = np.array(noise, np.float64).reshape(-1, 3).T
        varied = [example.variation for example in examples]
        knots = [each.knots for each in varied if each is not None]
        limits = [np.inf if each is None or each.limit is None else each.limit for each in varied]
        return Drawn(
            start=start.astype(np.int64),
            count=count.astype(np.int32),
            speed=speed.astype(np.int32),
            delay=delay.astype(np.int32),
            gap=gap.astype(np.int32),
            level_db=level_db.astype(np.float32),
            row=row.astype(np.int64),
            owner=np.array(owner, np.int64),
            knots=(np.concatenate(knots) if knots else np.zeros((len(owner), KNOTS))).astype(np.float32),
            noise_row=noise_row.astype(np.int64),
            noise_db=noise_db.astype(np.float32),
            noise_seed=noise_seed.astype(np.int64),
            limit=np.array(limits, np.float32),
            level=np.array([example.level for example in examples], np.float32),
            asked=np.array(asked, np.int64),
            query=np.stack([example.query for example in examples]),
            labels=tuple(example.labels for example in examples),
        )

    def _place(self, source: SourceSpec) -> tuple[int, int, int, int, int]:
        """Start, count, speed, delay and gap, as `corpus.mixing.render_source` has them."""
        first, total = self.spans[source.item]
        start = min(round(source.start * self.rate), total)
        given = min(round(source.speed * round(self.grid.duration * self.rate)) + 1, total - start)
        speed = round(1000 * source.speed)
        count = given if speed == 1000 else max(0, -(-1000 * (given - 1) // speed))
        return first + start, count, speed, round(source.delay * self.rate), round(source.gap * self.rate)


class DeviceMixer:
    """Makes batches of numbers.

    Args:
        sounds: the recordings that the numbers speak of.
        settings: of the whole run.
        device: that renders.

    Raises:
        SettingsError: if the sounds do not fit into the device's memory.
    """

    def __init__(self, sounds: Sounds, settings: SupervisedSettings, device: torch.device) -> None:
        self.device, self.rate = device, sounds.sample_rate
        self.equaliser_db = settings.augmentation.equaliser_db
        self.grid = TrainingGrid(settings)
        if device.type == "cuda":
            free, needed = torch.cuda.mem_get_info(device)[0], sounds.samples.nbytes
            if needed > 0.8 * free:
                raise SettingsError(
                    f"mixing_on = 'device': the sounds take {needed / 1e9:.0f} GB, the device has {free / 1e9:.0f} GB "
                    "free; use mixing_on = 'workers'."
                )
        self.samples = torch.from_numpy(sounds.samples).to(device)
        self.scale = self.grid.scale.to(device)
        self.cell_weight = self.grid.cell_weight.to(device)
        n_bins = self.grid.spectrogram.n_fft(self.rate) // 2 + 1
        self.frequency = torch.linspace(0.0, self.rate / 2, n_bins, device=device)
        position = knot_position(np.linspace(0.0, self.rate / 2, n_bins), self.rate) * (KNOTS - 1)
        hats = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(KNOTS)))
        self.hats = torch.from_numpy(hats.astype(np.float32)).to(device)
        self.generator = torch.Generator(device)

    @torch.no_grad()
    def __call__(self, drawn: Drawn) -> Batch:
        """Render, vary and pool a batch."""
        given = drawn.tensors(self.device)
        waveforms = self._waveforms(given, drawn)
        spectra = self._vary(self.grid.spectrogram.stft(waveforms, self.rate), given)
        # Sums as products with zeros and ones: adding by index would be in another order every time.
        flat = torch.view_as_real(spectra).flatten(1)
        mixture = _membership(given["owner"], len(given["level"])).T @ flat
        mixture = torch.view_as_complex(mixture.unflatten(1, (*spectra.shape[1:], 2)))
        present = given["asked"] >= 0
        targets = spectra[given["asked"].clamp_min(0)] * present[..., None, None]
        power = self._pool(inner(mixture, mixture))
        factor = normalise(power) * given["level"][:, None, None]
        grid = [self._pool(values) for values in (inner(targets, targets), inner(targets, mixture[:, None]))]
        own, cross = (each * factor[:, None] for each in grid)
        return Batch(given["query"], GridTargets(power * factor, own, cross, self.cell_weight, present), drawn.labels)

    def _waveforms(self, given: Mapping[str, Tensor], drawn: Drawn) -> Float[Tensor, "s n"]:
        """Sources, layers added to theirs, and noise."""
        played = self._play(given)
        waveforms = _membership(given["row"], len(given["owner"])).T @ played
        for row, level, seed in zip(drawn.noise_row, drawn.noise_db, drawn.noise_seed, strict=True):
            waveforms[int(row)] = self._noise(int(seed)) * float(REFERENCE_RMS * 10 ** (level / 20))
        return waveforms

    def _play(self, given: Mapping[str, Tensor]) -> Float[Tensor, "r n"]:
        count, speed, gap = (given[name][:, None] for name in ("count", "speed", "gap"))
        since = torch.arange(self.grid.n_samples, dtype=torch.int32, device=self.device) - given["delay"][:, None]
        place = torch.remainder(since, (count + gap).clamp_min(1))
        heard = (since >= 0) & (place < count)
        thousandths = torch.where(heard, place, 0).long() * speed
        index = given["start"][:, None] + thousandths // 1000
        before, after = self.samples[index].float(), self.samples[index + 1].float()
        waveform = (before + (after - before) * ((thousandths % 1000) / 1000.0)) * heard / 32768.0
        gain = REFERENCE_RMS * 10 ** (given["level_db"] / 20) / self._active_rms(waveform).clamp_min(1e-5)
        return waveform * gain[:, None]

    def _active_rms(self, waveform: Float[Tensor, "r n"]) -> Float[Tensor, " r"]:
        """As `corpus.mixing.active_rms`."""
        frame = round(ACTIVE_FRAME_SECONDS * self.rate)
        whole = waveform[:, : waveform.shape[1] // frame * frame]
        if not whole.shape[1]:
            return waveform.square().mean(1).sqrt()
        power = whole.unflatten(1, (-1, frame)).square().mean(-1)
        active = power >= 1e-4 * power.amax(1, keepdim=True)
        return ((power * active).sum(1) / active.sum(1)).sqrt()

    def _noise(self, seed: int) -> Float[Tensor, " n"]:
        """As `corpus.mixing.coloured_noise`."""
        rows = self.grid.n_samples // 2 + 1
        self.generator.manual_seed(seed)
        drawn = torch.rand(2 * rows + 1, generator=self.generator, device=self.device)
        slope = torch.arange(rows, device=self.device).clamp_min(1).float() ** -drawn[-1]
        spectrum = torch.view_as_complex((drawn[:-1] - 0.5).view(rows, 2)) * slope
        noise = torch.fft.irfft(spectrum, self.grid.n_samples)
        return noise / noise.square().mean().sqrt()

    def _vary(self, spectra: Complex[Tensor, "s f t"], given: Mapping[str, Tensor]) -> Complex[Tensor, "s f t"]:
        gain = 10 ** (self.equaliser_db * (given["knots"] @ self.hats.T) / 20)
        gain = gain * (self.frequency < given["limit"][given["owner"], None])
        return spectra * gain[..., None]

    def _pool(self, values: Float[Tensor, "*b f t"]) -> Float[Tensor, "*b bands steps"]:
        return self.grid.spectrogram.pool(values, self.rate) * self.scale


def _membership(index: Int[Tensor, " n"], size: int) -> Float[Tensor, "n size"]:
    """One where a row belongs to a column."""
    belongs: Bool[Tensor, "n size"] = index[:, None] == torch.arange(size, device=index.device)
    return belongs.float()
