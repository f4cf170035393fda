"""The supervised program: a mask network learns to answer queries about mixtures whose sources are known."""

import dataclasses
import json
import logging
import math
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from marssep.corpus.store import Corpus
from marssep.errors import OutputError, SettingsError
from marssep.model import LoadedModel, MaskNetwork, ModelConfig, build_network, load_model, save_model
from marssep.model.film_unet import FilmUNet
from marssep.model.unet import UNet
from marssep.spectral import Spectrogram
from marssep.train.averaging import averaged
from marssep.train.batches import Batch, TrainingBatches
from marssep.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from marssep.train.data_record import data_record
from marssep.train.device_batches import DeviceMixer, Drawn, DrawnBatches, Sounds
from marssep.train.examples import Embeddings
from marssep.train.journal import Journal
from marssep.train.losses import LossTerms, supervised_loss
from marssep.train.meter import Meter
from marssep.train.settings import OptimiserSettings, SupervisedSettings, require_same_ears
from marssep.train.teacher import Teacher
from marssep.train.validation import Validator, mean_improvement, validate
from marssep.train.world import World

_LOG = logging.getLogger(__name__)
_AGREE_EVERY = 10  # steps between two questions to all processes whether to stop; on a GPU an answer costs a wait


def train_supervised(
    settings: SupervisedSettings,
    *,
    corpus: Corpus,
    bank: Embeddings,
    output: Path,
    resume: bool = False,
    quiet: bool = False,
) -> Progress:
    """Train until the settings' steps or minutes are spent, or until interrupted (Ctrl-C ends after a checkpoint).

    Started by `accelerate launch` or `torchrun`, every process calls this with the same arguments: each takes its part
    of every batch, and the first one validates and writes.

    Writes into `output`: `settings.json`, `data.json`, `journal.jsonl`, `checkpoint/` (full state), `last/`, `best/`
    and, if they are kept, `at-STEP/` (models).

    Args:
        settings: the whole experiment.
        corpus: recordings and pictures.
        bank: their embeddings by the encoder that `settings.model.encoder` names.
        output: folder of the run.
        resume: go on from `output/checkpoint`, with any number of processes; by steps alone, the curve is the
            uninterrupted one.
        quiet: no progress bar.

    Raises:
        OutputError: if the folder holds another run and `resume` is not asked for, or cannot be written.
        ModelError: if there is nothing to resume from.
    """
    prepare_folder(output, resume)
    run = SupervisedRun(settings, corpus, bank, output)
    if run.world.is_main:
        record = data_record(corpus, settings.splits)
        if "image" in bank.modalities and not record["pictures"]:
            _LOG.warning("the manifests name no picture in %s: no query will be a picture.", list(settings.splits))
        for name, values in (("settings", settings.model_dump(mode="json")), ("data", record)):
            write_json(output / f"{name}.json", values)
    return run.go(resume=resume, quiet=quiet)


class SupervisedRun:
    """The loop of a program: draw, step, log, validate, keep; `train.reinforce` puts another step into it."""

    def __init__(self, settings: SupervisedSettings, corpus: Corpus, bank: Embeddings, output: Path) -> None:
        self.settings, self.output = settings, output
        self.world = World(settings.precision)
        self.world.split_batch(settings.batch_size, settings.accumulation)
        self.accelerator = self.world.accelerator
        torch.manual_seed(settings.seed)
        self.start = load_model(settings.start) if settings.start is not None else None
        network = self._build()
        self.world.synchronise(network, statistics=settings.batch_norm == "global")
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        self.network, self.optimiser = self.accelerator.prepare(network, _optimiser(network, settings.optimiser))
        plain = self.accelerator.unwrap_model(self.network)
        self.average = averaged(plain, settings.optimiser.ema)
        self.parts = self.world.size * settings.accumulation
        self.batches, self.mixer = self._drawing(corpus, bank)
        spectrogram = Spectrogram(settings.model.spectral)
        watch = settings.validation
        self.validators = [
            Validator(name, corpus, bank, spectrogram=spectrogram, limit=watch.mixtures)
            for name in (watch.lists if self.world.is_main else ())
        ]
        self.teacher = Teacher(settings, self.world.device) if settings.teacher is not None else None
        self.meter = Meter(self.world.device)
        self.stopping = False

    def _drawing(self, corpus: Corpus, bank: Embeddings) -> tuple[Dataset[Any], DeviceMixer | None]:
        """What the loader hands out, and what makes batches of it if the workers did not."""
        if self.settings.mixing_on == "workers":
            return TrainingBatches(corpus, bank, self.settings, parts=self.parts), None
        sounds = Sounds.gather(corpus, self.settings.splits, self.settings.sample_rate)
        mixer = DeviceMixer(sounds, self.settings, self.world.device)
        return DrawnBatches(corpus, bank, self.settings, sounds, parts=self.parts), mixer

    def _batch(self, given: Batch | Drawn) -> Batch:
        """What came out of the loader as a batch on the device."""
        if isinstance(given, Drawn):
            assert self.mixer is not None
            return self.mixer(given)
        return to_device(given, self.world.device)

    def _build(self) -> nn.Module:
        """What is trained, before it is spread over devices."""
        return first_network(self.settings, self.start)

    def separator(self) -> MaskNetwork:
        """The averaged mask network: what is validated and kept."""
        kept: Any = self.average.module
        return kept

    def _config(self) -> ModelConfig:
        """Of the model that is kept."""
        return self.settings.model

    def go(self, *, resume: bool, quiet: bool) -> Progress:
        """Run to the end, or to Ctrl-C."""
        progress = Progress()
        if resume:
            progress = load_checkpoint(self.output / "checkpoint", **self._state())
        # Launchers and schedulers of clusters say SIGTERM before they kill.
        previous = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        folder = self.output if self.world.is_main else None
        try:
            with Journal(folder, total=self.settings.steps, append=resume, start=progress.step, quiet=quiet) as journal:
                self._loop(progress, journal)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return progress

    def _loop(self, progress: Progress, journal: Journal) -> None:
        settings = self.settings
        before, start, stop = progress.seconds, time.monotonic(), False
        self._start(progress, journal)
        figures: list[Mapping[str, Tensor]] = []
        for batches in self.meter.waiting(self._loader(progress.step)):
            if self.world.size == 1 or progress.step % _AGREE_EVERY == 0:
                progress.seconds, stop = self.world.agree(before + time.monotonic() - start, self.stopping)
            for group in self.optimiser.param_groups:
                group["lr"] = settings.optimiser.learning_rate * self._rate(progress)
            figures.extend(self._step(tuple(map(self._batch, batches)), progress))
            self.meter.count(settings.batch_size)
            progress.step += 1
            if progress.step % settings.log_every_steps == 0:
                self._log(progress, figures, journal)
            if progress.step % settings.validation.every_steps == 0:
                self._validate(progress, journal)
            if progress.step % settings.checkpoint_every_steps == 0:
                self._checkpoint(progress)
            spent = settings.max_minutes is not None and progress.seconds >= 60 * settings.max_minutes
            if stop or spent or (self.stopping and self.world.size == 1):
                break
        if progress.step % settings.validation.every_steps:
            self._validate(progress, journal)
        self._checkpoint(progress)
        if self.world.is_main:
            self._save("last", progress)

    def _start(self, progress: Progress, journal: Journal) -> None:
        """Before the first step of a session."""
        self.network.train()

    def _step(self, batches: tuple[Batch, ...], progress: Progress) -> Sequence[Mapping[str, Tensor]]:
        """Learn from the batches of a step and say what there is to say; `loss` and `si_sdr` are shown."""
        passes = [self._pass(batch, last=number == len(batches)) for number, batch in enumerate(batches, start=1)]
        self.accelerator.clip_grad_norm_(self.network.parameters(), self.settings.optimiser.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.update_parameters(self.accelerator.unwrap_model(self.network))
        return passes

    def _pass(self, batch: Batch, *, last: bool) -> Mapping[str, Tensor]:
        with self.world.partial_pass(self.network, last=last):
            with self.world.autocast():
                output = self.network(batch.targets.power, batch.query)
            terms = supervised_loss(output, batch.targets, self.settings.loss, average=self.world.average)
            figures = {field.name: getattr(terms, field.name) for field in dataclasses.fields(LossTerms)}
            if self.teacher is not None:
                taught = self.teacher.loss(output, batch, autocast=self.world.autocast, average=self.world.average)
                figures |= {"loss": terms.loss + self.settings.loss.teacher * taught, "teacher": taught}
            self.accelerator.backward(figures["loss"] / self.settings.accumulation)
        return {name: figure.detach() for name, figure in figures.items()}

    def _rate(self, progress: Progress) -> float:
        settings = self.settings
        done = progress.step / settings.steps
        if settings.max_minutes is not None:
            done = max(done, progress.seconds / (60 * settings.max_minutes))
        return learning_rate_factor(settings.optimiser, step=progress.step, done=min(done, 1.0))

    def _loader(self, start: int) -> Iterator[tuple[Batch | Drawn, ...]]:
        """What this process does of each step from `start` on, one batch a pass."""
        sampler = _FromStep(start, self.settings.steps, self.parts, self.world)
        workers = self.settings.workers
        # A generator of its own: drawing from the one that dropout uses would make a resumed run differ.
        extra: dict[str, Any] = {"generator": torch.Generator()}
        if workers:
            extra |= {"prefetch_factor": 4, "multiprocessing_context": "fork"}
        passes = iter(DataLoader(self.batches, batch_size=None, sampler=sampler, num_workers=workers, **extra))
        return zip(*[passes] * self.settings.accumulation, strict=True)

    def _log(self, progress: Progress, passes: list[Mapping[str, Tensor]], journal: Journal) -> None:
        names = list(passes[0])
        means = torch.stack([torch.stack([each[name].float() for each in passes]).mean() for name in names])
        figures = dict(zip(names, self.world.average(means).tolist(), strict=True))
        passes.clear()
        if not math.isfinite(figures["loss"]):
            raise SettingsError(f"the loss is not finite at step {progress.step}; lower optimiser.learning_rate.")
        figures |= {"learning_rate": self.optimiser.param_groups[0]["lr"], "seconds": progress.seconds}
        journal.write(progress.step, figures | self.meter.read())
        journal.advance(progress.step, f"loss {figures['loss']:.3f}, SI-SDR {figures['si_sdr']:.2f} dB")

    def _validate(self, progress: Progress, journal: Journal) -> None:
        if not self.validators:  # or not the first process, which has them
            return
        figures = validate(self.validators, self.separator())
        journal.write(progress.step, figures | {"seconds": progress.seconds})
        progress.history.append({"step": progress.step, **figures})
        score = mean_improvement(figures)
        if self.settings.validation.keep:
            self._save(f"at-{progress.step:06d}", progress)
        if progress.best is None or score > progress.best:
            progress.best = score
            self._save("best", progress)

    def _checkpoint(self, progress: Progress) -> None:
        if self.world.is_main:
            save_checkpoint(self.output / "checkpoint", progress=progress, **self._state())

    def _save(self, name: str, progress: Progress) -> None:
        card: dict[str, Any] = {
            "steps": progress.step,
            "training_seconds": round(progress.seconds),
            "validation": progress.history[-1] if progress.history else {},
            "settings": without_places(self.settings.model_dump(mode="json")),
        }
        if self.start is not None:
            before = {key: self.start.card[key] for key in ("training", "data") if key in self.start.card}
            card["started_from"] = {"sha256": self.start.sha256, **(before or self.start.card)}
        if self.teacher is not None:
            card["teacher"] = self.teacher.sha256
        save_model(self.output / name, self.separator(), self._config(), card=card)

    def _state(self) -> dict[str, Any]:
        plain: nn.Module = self.accelerator.unwrap_model(self.network)
        return {"network": plain, "average": self.average, "optimiser": self.optimiser}

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True


class _FromStep(Sampler[int]):
    """Numbers of the parts of batches that one process makes from a step on."""

    def __init__(self, start: int, steps: int, parts: int, world: World) -> None:
        # A pass is made by all processes side by side, so a step's parts are dealt out in turn.
        self._numbers = range(start * parts + world.rank, steps * parts, world.size)

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


def learning_rate_factor(settings: OptimiserSettings, *, step: int, done: float) -> float:
    """Warm-up by steps, then decay by the share of the run that is done (0 to 1)."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    fall = 0.5 * (1.0 + math.cos(math.pi * done)) if settings.decay == "cosine" else 1.0 - done
    return warm * (settings.final_fraction + (1.0 - settings.final_fraction) * fall)


def _optimiser(network: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    if settings.name == "adam":
        return torch.optim.Adam(network.parameters(), settings.learning_rate)
    # Norms and biases are not decayed: pulling them to zero only shrinks the features.
    matrices = [p for p in network.parameters() if p.dim() > 1]
    vectors = [p for p in network.parameters() if p.dim() <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, settings.learning_rate, betas=(0.9, 0.99), weight_decay=settings.weight_decay)


def first_network(settings: SupervisedSettings, start: LoadedModel | None) -> MaskNetwork:
    """Random weights, or those of the model to start from.

    Raises:
        SettingsError: if that model is of another shape than the settings say, or noise masks and queries differ in
            number.
    """
    network = build_network(settings.model)
    masks = len(network.noise) if isinstance(network, UNet) else 0
    if masks not in (0, settings.queries.per_mixture):
        raise SettingsError(
            f"model.network.noise_masks = {masks}, but each mixture has {settings.queries.per_mixture} queries "
            "(queries.per_mixture), and each target takes one noise mask; make them equal, or noise_masks 0."
        )
    if start is None:
        return network
    # What the network is given must be what it has learnt to read.
    fields = ("architecture", "encoder", "spectral", "query_dimension")
    require_same_ears(start.config, settings, role="start", fields=fields)
    try:
        theirs = start.network
        if isinstance(network, FilmUNet) and isinstance(theirs, FilmUNet) and network.shares_more(theirs):
            network.adopt(theirs)
        else:
            network.load_state_dict(start.network.state_dict())
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise SettingsError(
            f"start = {settings.start!r}: its network has another size than model.network ({reason})."
        ) from None
    return network


def prepare_folder(output: Path, resume: bool) -> None:
    """Make the folder of a run; a finished one is not written over unless it is to go on."""
    if (output / "checkpoint").exists() and not resume:
        raise OutputError(f"{output}: already holds a run; go on with --resume or choose another --output.")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output}: cannot be made ({error.strerror}); choose another --output.") from None


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a small JSON file at once or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --output.") from None


def without_places(value: Any) -> Any:
    """Settings as they may travel: of an absolute path only the last two parts, for the rest is of this machine."""
    if isinstance(value, dict):
        return {key: without_places(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_places(each) for each in value]
    if isinstance(value, str) and Path(value).is_absolute():
        return "/".join(Path(value).parts[-2:])
    return value


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch where the network is."""
    if device.type == "cpu":
        return batch
    fields = {f.name: getattr(batch.targets, f.name) for f in dataclasses.fields(batch.targets)}
    targets = {name: tensor.to(device, non_blocking=True) for name, tensor in fields.items()}
    moved = dataclasses.replace(batch.targets, **targets)
    return Batch(batch.query.to(device, non_blocking=True), moved, batch.labels)
