"""A recording's way through the model in constant memory: passes over its samples, masks on a spool between them.

1. *settle*, only for a query by picture alone: the network and the query encoder listen for each of its readings.
2. *propose*: spectrogram block by block, the network chunk by chunk, masks cross-faded onto the spool.
3. *adapt*, if wanted: what the sounds look like here and where they come from; `marssep.spectral.adaptation`.
4. *render*: spectrogram block by block again, adapted masks applied, the inverse handed on.

What is known only at the end (whether the sound is there, whether a peak passes full scale) may need another render.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from marssep.errors import InputError
from marssep.model import LoadedModel
from marssep.query import QueryEncoder
from marssep.runtime.hearing import Heard
from marssep.separate.asked import Asked
from marssep.separate.blocks import block_columns, block_power, kept_columns, masked_block, walk
from marssep.separate.chunks import Fader, Listener, Said
from marssep.separate.presence import TYPICAL, Ear, Evidence, Gate, Stretches
from marssep.separate.progress import Meter, Watch
from marssep.separate.settling import weigh
from marssep.separate.sources import Source
from marssep.separate.trace import GridLevels, SecondLevels, Trace, loudest_db, over_seconds, shares_db
from marssep.spectral.adaptation import Adaptation
from marssep.spectral.directions import channels_differ
from marssep.spectral.spool import ColumnSpool
from marssep.spectral.walking import Block

_GRID_STEP = float(1 << 23)  # of 24-bit samples
_STAGES = {"settle": 1.0, "propose": 2.0, "adapt": 1.0, "render": 2.0}


@dataclass(frozen=True, slots=True)
class Rendered:
    """One block of a render.

    Attributes:
        targets: samples of each target that was asked for, float32.
        mixture: the input's samples, float64 if they have more bits than float32.
        spectrum: of the block with its context.
        masks: of each target on the grid, as `columns` of the recording.
        block: where it lies.
    """

    targets: list[Float[Tensor, "c n"]]
    mixture: Float[Tensor, "c n"]
    spectrum: Complex[Tensor, "c f t"]
    masks: Float[Tensor, "q bands _"]
    block: Block


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a sound is there.

    Attributes:
        presence: probability.
        present: whether it reached the model's threshold.
        attenuated_db: how far the target is to be turned down.
        confidence: probability that the sound can be heard, for every second; empty of a guess.
    """

    presence: float
    present: bool
    attenuated_db: float
    confidence: list[float] = field(default_factory=list)

    @property
    def gain(self) -> float:
        """Factor of the target."""
        return 10.0 ** (-self.attenuated_db / 20.0)


class Stream:
    """One recording and what is asked of it.

    Attributes:
        length: samples per channel; known after `propose`.
        on_grid: whether every sample is a 24-bit number, so that sums can be exact in float32; known after `propose`.
        masks: on the spool; complete after `propose`.

    Args:
        source: the recording.
        model: network and settings.
        encoder: the query encoder that the network was trained with.
        asked: the queries.
        watch: called on the way; may cancel.
        folder: where masks lie that are too many for memory; None is the system's temporary folder.
        block_seconds: kept part of a block; memory against speed, see `blocks.walk`.
    """

    def __init__(
        self,
        source: Source,
        model: LoadedModel,
        encoder: QueryEncoder,
        asked: Asked,
        *,
        watch: Watch | None = None,
        folder: Path | None = None,
        block_seconds: float | None = None,
    ) -> None:
        self.source, self.model, self.encoder, self.asked = source, model, encoder, asked
        self.length = 0
        self.on_grid = True
        self.masks = ColumnSpool(len(asked.targets), model.config.spectral.n_bands, folder=folder)
        self._block_seconds, self._folder = block_seconds, folder
        stages = tuple((name, size) for name, size in _STAGES.items() if name != "settle" or any(asked.readings))
        self._meter = Meter(
            watch, name=source.name, sample_rate=source.sample_rate, length=source.length_hint, stages=stages
        )
        self._channels_differ = False
        self._adaptation: Adaptation | None = None
        self._settled: dict[int, float] = {}
        self._presence = torch.zeros(0)
        self._said: Said | None = None
        self._levels = SecondLevels(source.sample_rate)
        self._grid_levels = GridLevels(model.spectral.row_bins(source.sample_rate), model.config.spectral.step_seconds)
        self._heard: list[Heard] = []

    @torch.inference_mode()
    def propose(self) -> None:
        """Everything up to the masks.

        Raises:
            InputError: if the recording cannot be read or is empty.
            CancelledError: if the watch says so.
        """
        if any(self.asked.readings):
            self._settle()
        self._meter.enter("propose")
        rows, competition = self.asked.rows()
        listener, fader = self._listener(rows), Fader(self.model.config.chunk_steps)
        for block, power in self._powers(check=True):
            self._grid_levels.push(power)
            self._fade(listener.push(power), fader, competition.masks)
            self.length = block.stop
        if not self.length:
            raise InputError(f"{self.source.name}: the recording is empty (0 samples); there is nothing to separate.")
        self._fade(listener.finish(), fader, competition.masks)
        self._append(fader.finish(listener.n_steps))
        self._presence = listener.presence()[: len(self.asked.targets)]
        self._said = listener.said()

    @torch.inference_mode()
    def adapt(self) -> None:
        """Learn from the recording itself, after `propose`, and have `render` use it.

        Raises:
            InputError: if the recording cannot be read.
            OutputError: if there is no room for what was learnt.
            CancelledError: if the watch says so.
        """
        self._meter.enter("adapt")
        rate, spectral = self.source.sample_rate, self.model.spectral
        self._adaptation = Adaptation(spectral.settings, directions=self._channels_differ, folder=self._folder)
        for block, excerpt in self._walk():
            seen = spectral.stft(excerpt.float(), rate)[..., :: spectral.settings.frames_per_step]
            kept = kept_columns(block, seen.shape[-1], rate, spectral)
            columns = slice(block.first_step + kept.start, block.first_step + kept.stop)
            masks = spectral.on_bins(torch.from_numpy(self.masks.read(columns)), rate)
            self._adaptation.push(seen[..., kept].numpy(), masks.numpy())
            self._meter.passed(block.stop)
        self._adaptation.finish()

    @torch.inference_mode()
    def render(self, wanted: Sequence[int], *, listening: bool = False) -> Iterator[Rendered]:
        """The targets `wanted`, block by block and before any gate.

        Args:
            wanted: numbers of queries.
            listening: let the query encoder listen to the targets, for `verdicts`; needs all queries.

        Raises:
            InputError: if the recording has changed since `propose`.
            CancelledError: if the watch says so.
        """
        self._meter.enter("render")
        rate, spectral = self.source.sample_rate, self.model.spectral
        matching = listening and self.model.config.evidence_weights.listens
        stretches = [Stretches(rate, seconds=self.model.chunk_seconds) for _ in wanted] if matching else []
        length, levels = 0, SecondLevels(rate)
        for block, excerpt in self._walk():
            spectrum = spectral.stft(excerpt.float(), rate)
            masks = torch.from_numpy(self.masks.read(block_columns(block, spectrum.shape[-1], spectral)))
            targets = [self._target(block, spectrum, masks[index], index)[:, block.kept] for index in wanted]
            for heard, target in zip(stretches, targets, strict=False):
                heard.push(target)
            if listening:
                levels.push(block.start, [*targets, excerpt[:, block.kept].float()])
            length = block.stop
            yield Rendered(targets, excerpt[:, block.kept], spectrum, masks, block)
            self._meter.passed(length)
        if length != self.length:
            raise InputError(
                f"{self.source.name}: changed while it was read ({self.length} samples, then {length}); wait until it "
                "is complete."
            )
        if listening:
            self._levels = levels
        if matching:
            ear = Ear.of(self.model.config, self.encoder)
            self._heard = [
                ear.listen(each, self.asked.targets[index]) for index, each in zip(wanted, stretches, strict=True)
            ]

    def whole(self, like: Float[Tensor, "c n"]) -> list[Float[Tensor, "c n"]]:
        """All targets as `render` has them, listened to, each in one piece of the recording's shape and type."""
        targets = [torch.empty_like(like) for _ in self.asked.targets]
        for part in self.render(range(len(targets)), listening=True):
            for target, made in zip(targets, part.targets, strict=True):
                target[:, part.block.start : part.block.stop] = made
        return targets

    def guesses(self, *, gate: bool) -> list[Verdict]:
        """What `verdicts` will most likely say, before anything was listened to."""
        usual = TYPICAL if self.model.config.evidence_weights.listens else Heard()
        return self._judge([usual] * len(self._presence), self._grid_levels.energies(), gate=gate)

    def verdicts(self, *, gate: bool) -> list[Verdict]:
        """Whether each sound is there, once the targets were listened to."""
        made = self._judge(self._heard or [Heard()] * len(self._presence), self._levels.energies(), gate=gate)
        traces = self.traces()
        return [
            replace(verdict, confidence=trace.confidence(self.model.config))
            for verdict, trace in zip(made, traces, strict=True)
        ]

    def _judge(self, heard: list[Heard], energies: Float[Tensor, "w s"], *, gate: bool) -> list[Verdict]:
        config, rule = self.model.config, Gate.of(self.model.config)
        presence = [
            Evidence(self._settled.get(index, logit), each).presence(config)
            for index, (logit, each) in enumerate(zip(self._presence.tolist(), heard, strict=True))
        ]
        levels = loudest_db(energies[:-1], energies[-1], seconds=self.model.chunk_seconds)
        return [
            Verdict(each, each >= rule.threshold, rule.attenuation_db if gate and closed else 0.0)
            for each, closed in zip(presence, rule.closed(presence, levels).tolist(), strict=True)
        ]

    def traces(self) -> list[Trace]:
        """What is known of every second, for each query, once the targets were listened to."""
        assert self._said is not None
        config, said = self.model.config, self._said
        energies = self._levels.energies()
        step = config.spectral.step_seconds
        network = over_seconds(
            said.presence[:, : len(self.asked.targets)],
            said.starts,
            said.audible,
            spans=(step, config.chunk_steps * step),
            seconds=self.length / self.source.sample_rate,
        )
        network = network.masked_fill(energies[-1] == 0, -math.inf)
        shares = shares_db(energies[:-1], energies[-1])
        made = []
        for index, (logits, share) in enumerate(zip(network, shares, strict=True)):
            # What a picture means was settled for the whole recording: its odds move those of all seconds alike.
            shift = self._settled[index] - float(self._presence[index]) if index in self._settled else 0.0
            match = self._heard[index].match if self._heard else 0.0
            made.append(Trace(logits + (shift if math.isfinite(shift) else 0.0), share, match))
        return made

    def close(self) -> None:
        """Give memory and disk back."""
        self.masks.close()
        if self._adaptation is not None:
            self._adaptation.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _target(
        self, block: Block, spectrum: Complex[Tensor, "c f t"], mask: Float[Tensor, "bands _"], index: int
    ) -> Float[Tensor, "c n"]:
        rate, spectral, length = self.source.sample_rate, self.model.spectral, block.kept.stop + block.right
        if self._adaptation is None:
            return masked_block(spectrum, mask, rate, spectral, length=length)
        wide = spectral.from_grid(mask, rate, spectrum.shape[-1])
        first_frame = block.first_step * spectral.settings.frames_per_step
        made = self._adaptation.apply(spectrum.numpy(), wide.numpy(), sound=index, first_frame=first_frame)
        return spectral.istft(torch.from_numpy(made), rate, length)

    def _settle(self) -> None:
        self._meter.enter("settle")
        unsure = {index: read for index, read in enumerate(self.asked.readings) if read is not None}
        listener = self._listener(torch.cat([read.places for read in unsure.values()]))
        stretches = Stretches(self.source.sample_rate, seconds=self.model.chunk_seconds)
        for block, power in self._powers(watching=stretches.push):
            for _ in listener.push(power):
                pass
            self.length = block.stop
        if not self.length:
            return  # `propose` says so
        for _ in listener.finish():
            pass
        heard = iter(listener.presence().split([len(read.places) for read in unsure.values()]))
        listened = stretches.embed(self.encoder) if self.model.config.reading_match else None
        settled = {index: weigh(self.model.config, read, next(heard), listened) for index, read in unsure.items()}
        self._settled = {index: each.presence for index, each in settled.items()}
        self.asked = self.asked.settled({index: each.embedding for index, each in settled.items()})

    def _listener(self, rows: Float[Tensor, "q d"]) -> Listener:
        return Listener(self.model.network, rows, chunk_steps=self.model.config.chunk_steps)

    def _fade(
        self,
        answers: Iterator[tuple[int, Tensor]],
        fader: Fader,
        masks: Callable[[Tensor], Tensor],
    ) -> None:
        for start, logits in answers:
            self._append(fader.add(start, masks(logits[None])[0]))

    def _append(self, masks: Float[Tensor, "q bands _"]) -> None:
        self._grid_levels.masked(masks)
        self.masks.append(masks.numpy())

    def _powers(
        self, *, check: bool = False, watching: Callable[[Tensor], None] | None = None
    ) -> Iterator[tuple[Block, Tensor]]:
        rate, spectral = self.source.sample_rate, self.model.spectral
        for block, excerpt in self._walk():
            kept = excerpt[:, block.kept]
            if check and not self._channels_differ:
                self._channels_differ = channels_differ(kept.float().numpy())
            if check and self.on_grid:
                scaled = kept.double() * _GRID_STEP
                self.on_grid = bool((scaled == scaled.round()).all())
            if watching is not None:
                watching(kept)
            yield block, block_power(block, excerpt.float(), rate, spectral)
            self._meter.passed(block.stop)

    def _walk(self) -> Iterator[tuple[Block, Tensor]]:
        pieces, rate = self.source.pieces(), self.source.sample_rate
        return walk(pieces, rate, self.model.spectral, block_seconds=self._block_seconds)
