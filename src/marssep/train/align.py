"""Stage 1 of the progressive alignment: heads that bring words, sounds and pictures of the same thing together."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from marssep.errors import CorpusError, UsageError
from marssep.query import QueryEncoder, TrunkFeatures
from marssep.query.heads import MixtureHead, ProjectionHead
from marssep.reward.alignment import Temperature, geometry_loss, info_nce_loss, label_accuracy
from marssep.settings import Settings

_LOG = logging.getLogger(__name__)
_FEWEST = 10  # items of a validation group that count: fewer are noise


class AlignSettings(Settings):
    """How the heads are trained; the defaults made the shipped heads."""

    seed: int = 0
    """Of the initial weights, the batches and the noise."""
    steps: int = 600
    """At most; training stops when validation has not improved for `patience` checks."""
    batch_size: int = 256
    """Recordings, and as many pictures, per step. Captions: one of every label, so that all labels are negatives."""
    learning_rate: float = 1e-3
    """Peak, of AdamW; warmed up over 50 steps and brought to 0 along a cosine."""
    weight_decay: float = 0.05
    """Of AdamW."""
    noise: float = 0.3
    """Standard deviation of the noise added to trunk features, in units of their spread; 0 did as well."""
    temperature: float = 0.07
    """Initial value of the learnable temperature."""
    audio_image_weight: float = 0.5
    """Of the loss between recordings and pictures, beside 1 for each of the two with captions."""
    geometry_weight: float = 1.0
    """Of keeping the neighbours of words that no recording has; 0 and 5 did as well on labels left out of training."""
    geometry_words: int = 256
    """Words per step for it, drawn from the class names of AudioSet and ImageNet and from the captions."""
    check_every: int = 50
    """Steps between validations."""
    patience: int = 6
    """Checks without improvement before stopping."""
    only: Literal["all", "image"] = "all"
    """`image` fits the picture head alone, into the space of the other two, which stay as they are."""
    ridge: float = Field(2.0, gt=0)
    """Of the fit of a picture head that mixes classes: added to the eigenvalues of the features' covariance."""
    sharpness: float = Field(25.0, gt=0)
    """Of its guesses: factor before the softmax. Guesses that are too sure cost more separation than mixed ones."""


@dataclass(frozen=True)
class LabelledFeatures:
    """Trunk features of one modality with what they show.

    Attributes:
        features: `[n, k, f]`, k crops each.
        labels: n label numbers.
        groups: n names `split/group`, for the report.
    """

    features: Tensor
    labels: Tensor
    groups: tuple[str, ...]

    def where(self, wanted: Callable[[str], bool]) -> "LabelledFeatures":
        """The part whose group name is wanted."""
        rows = [row for row, group in enumerate(self.groups) if wanted(group)]
        return LabelledFeatures(self.features[rows], self.labels[rows], tuple(self.groups[row] for row in rows))


@dataclass(frozen=True)
class AlignmentData:
    """Everything the heads are trained and judged on.

    Attributes:
        labels: names, in the order of their numbers.
        audio: recordings of all splits.
        image: pictures of all splits.
        variants: random variants of the training pictures.
        captions: texts.
        caption_features: `[t, f]`.
        describes: `[t, l]` whether a caption describes a label.
        primary: number of the first caption of each label, the one used to name it.
        word_features: `[w, f]` of words beyond the captions; may be empty.
    """

    labels: tuple[str, ...]
    audio: LabelledFeatures
    image: LabelledFeatures
    variants: LabelledFeatures
    captions: tuple[str, ...]
    caption_features: Tensor
    describes: Tensor
    primary: Tensor
    word_features: Tensor


def alignment_data(items: Sequence[Any], features: TrunkFeatures, words: Tensor | None = None) -> AlignmentData:
    """Arrange trunk features by label.

    Args:
        items: of the corpus.
        features: of the same corpus.
        words: `[w, f]` text features of words beyond the captions.

    Raises:
        CorpusError: no training recordings.
    """
    labels = sorted({item.label for item in items})
    number = {label: index for index, label in enumerate(labels)}
    captions = sorted({caption for item in items for caption in item.captions})
    at = {caption: index for index, caption in enumerate(captions)}
    describes = torch.zeros(len(captions), len(labels), dtype=torch.bool)
    primary = torch.zeros(len(labels), dtype=torch.long)
    for item in items:
        for caption in item.captions:
            describes[at[caption], number[item.label]] = True
        primary[number[item.label]] = at[item.captions[0]]
    tables = {"audio": features.audio, "image": features.image, "variants": features.variant}
    parts = {}
    for kind, table in tables.items():
        chosen = [item for item in items if item.kind == kind]
        if kind == "variants":
            chosen = [item for item in items if item.kind == "image" and item.split == "train"]
        if not any(item.split == "train" for item in chosen):
            raise CorpusError(f"The corpus has no {kind} items in the split 'train'; build one that has.")
        stacked = torch.from_numpy(np.stack([table[item.sha256] for item in chosen])).float()
        numbers = torch.tensor([number[item.label] for item in chosen])
        parts[kind] = LabelledFeatures(stacked, numbers, tuple(f"{item.split}/{item.group}" for item in chosen))
    texts = torch.from_numpy(np.stack([features.text[caption] for caption in captions])).float()
    return AlignmentData(
        labels=tuple(labels),
        audio=parts["audio"],
        image=parts["image"],
        variants=parts["variants"],
        captions=tuple(captions),
        caption_features=texts,
        describes=describes,
        primary=primary,
        word_features=words if words is not None else texts[:0],
    )


@dataclass(frozen=True)
class TrainedHeads:
    """What a training left behind.

    Attributes:
        score: best mean validation accuracy, in [0, 1].
        step: where it was reached.
        temperature: at that step.
        log: one row a check: step, loss, score, temperature.
        seconds: of training.
    """

    score: float
    step: int
    temperature: float
    log: tuple[dict[str, float], ...]
    seconds: float


def train_heads(
    encoder: QueryEncoder,
    data: AlignmentData,
    settings: AlignSettings,
    *,
    progress: Callable[[dict[str, float]], None] | None = None,
) -> TrainedHeads:
    """Train the heads of an encoder in place and leave it with those that were best on validation.

    Args:
        encoder: its heads are re-initialised, with `only` that of pictures alone; its trunks are not touched.
        data: only the groups `train/...` are learnt from, `val` and `...-val/...` decide when to stop.
        settings: see there.
        progress: called with each row of the log.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return _train_all(encoder, data, settings, progress)


def _train_all(
    encoder: QueryEncoder,
    data: AlignmentData,
    settings: AlignSettings,
    progress: Callable[[dict[str, float]], None] | None,
) -> TrainedHeads:
    """The gradient's heads first, then the picture head that is fitted to where they put the words."""
    mixture, started = encoder.heads["image"], time.time()
    trained = TrainedHeads(-1.0, 0, settings.temperature, (), 0.0)
    if settings.only == "all":
        heads = nn.ModuleDict(dict(encoder.heads.items()))
        if isinstance(mixture, MixtureHead):  # pictures help words and sounds along the way
            heads["image"] = ProjectionHead(data.image.features.shape[-1], encoder.dimension)
        trained = _train(heads, data, settings, progress)
    if not isinstance(mixture, MixtureHead):
        if settings.only == "image":
            raise UsageError(f"The picture head of the encoder '{encoder.name}' cannot be fitted alone; use only=all.")
        return trained
    fit_picture_head(mixture, encoder.heads["text"], data, settings)
    score = validation_score(encoder.heads.eval(), data)
    if progress is not None:
        progress({"step": trained.step, "loss": math.nan, "score": score, "temperature": trained.temperature})
    return replace(trained, score=score, seconds=time.time() - started)


def _train(
    heads: nn.ModuleDict,
    data: AlignmentData,
    settings: AlignSettings,
    progress: Callable[[dict[str, float]], None] | None,
) -> TrainedHeads:
    generator = torch.Generator().manual_seed(settings.seed)
    batches = _Batches(data, settings, generator)
    temperature = Temperature(settings.temperature)
    prepare_heads(heads, batches)
    heads.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [*heads.parameters(), *temperature.parameters()], settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings.steps))
    best, kept, log, started = TrainedHeads(-1.0, 0, settings.temperature, (), 0.0), heads.state_dict(), [], time.time()
    for step in range(1, settings.steps + 1):
        heads.train()
        loss = _loss(heads, batches, temperature(), settings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % settings.check_every == 0 or step == settings.steps:
            score = validation_score(heads.eval(), data)
            row = {"step": step, "loss": loss.item(), "score": score, "temperature": temperature().item()}
            log.append(row)
            if progress is not None:
                progress(row)
            if score > best.score:
                best = TrainedHeads(score, step, temperature().item(), (), 0.0)
                kept = {key: value.clone() for key, value in heads.state_dict().items()}
            if step - best.step >= settings.patience * settings.check_every:
                break
    heads.load_state_dict(kept)
    heads.requires_grad_(False).eval()
    return TrainedHeads(best.score, best.step, best.temperature, tuple(log), time.time() - started)


@torch.no_grad()
def fit_picture_head(head: MixtureHead, text_head: nn.Module, data: AlignmentData, settings: AlignSettings) -> None:
    """Fit the guesses by ridge regression on class membership and put the classes where their names are.

    Training pictures and their variants count; classes with n of them weigh `sqrt(n)`. Solved in closed form, so that
    neither the seed nor validation has a part in it.

    Args:
        head: overwritten.
        text_head: gives the places.
        data: its groups `train/...` are learnt from.
        settings: `ridge` and `sharpness`.
    """
    pictures = data.image.where(lambda group: group.startswith("train/"))
    rows = torch.cat([pictures.features.flatten(0, 1), data.variants.features.flatten(0, 1)])
    labels = [part.labels.repeat_interleave(part.features.shape[1]) for part in (pictures, data.variants)]
    classes, members = torch.cat(labels).unique(return_inverse=True)
    head.mean, head.spread = rows.mean(0), rows.std(0).clamp_min(0.05)
    inputs = (rows - head.mean) / head.spread
    weights = torch.bincount(members).float().rsqrt()[members]
    weights = weights / weights.sum()
    wanted = torch.nn.functional.one_hot(members).float()
    shares = weights @ wanted
    weighted = inputs * weights[:, None]
    covariance = weighted.T @ inputs
    covariance.diagonal().add_(settings.ridge)
    fitted = torch.linalg.solve(covariance, weighted.T @ (wanted - shares))
    head.weight, head.bias = settings.sharpness * fitted.T.contiguous(), torch.zeros(len(classes))
    head.places = text_head(data.caption_features[data.primary[classes]])


@torch.no_grad()
def validation_score(heads: nn.ModuleDict, data: AlignmentData) -> float:
    """Mean over modalities and validation groups of the share whose nearest label is right."""
    names = heads["text"](data.caption_features[data.primary])
    scores = []
    for kind, part in (("audio", data.audio), ("image", data.image)):
        chosen = part.where(lambda group: group.split("/")[0].endswith("val"))
        if not chosen.groups:
            continue
        hits = label_accuracy(heads[kind](chosen.features[:, 0]), names, chosen.labels.tolist(), range(len(names)))
        for group in sorted(set(chosen.groups)):
            rows = torch.tensor([name == group for name in chosen.groups])
            if int(rows.sum()) >= _FEWEST:
                scores.append(hits[rows].mean().item())
    return float(np.mean(scores)) if scores else 0.0


def prepare_heads(heads: nn.ModuleDict, batches: "_Batches") -> None:
    """Set mean and spread, and start the text head as a rotation: words keep their neighbours before any training."""
    texts = batches.words
    for kind, features in (("text", texts), ("audio", batches.audio.features), ("image", batches.image.features)):
        head, rows = heads[kind], features.flatten(0, -2)
        assert isinstance(head, ProjectionHead)
        head.mean.copy_(rows.mean(0))
        # one number for text, whose directions matter; sparse sound and picture features need one each
        spread = rows.std(0).clamp_min(0.01) if kind != "text" else (rows - rows.mean(0)).square().mean().sqrt()
        head.spread.copy_(spread)
        for module in (head.linear, head.hidden, head.output):
            module.reset_parameters()
        with torch.no_grad():
            head.linear.bias.zero_()
            if kind == "text":
                nn.init.orthogonal_(head.linear.weight, gain=head.linear.in_features**-0.5)
            else:
                head.linear.weight.mul_(0.3)
            head.output.weight.mul_(0.3)


class _Batches:
    """Draws recordings and pictures evenly over labels, and a caption of every label."""

    def __init__(self, data: AlignmentData, settings: AlignSettings, generator: torch.Generator) -> None:
        self.data, self.settings, self.generator = data, settings, generator
        self.audio = data.audio.where(lambda group: group.startswith("train/"))
        self.image = data.image.where(lambda group: group.startswith("train/"))
        seen = sorted({*self.audio.labels.tolist(), *self.image.labels.tolist()})
        self._captions = [data.describes[:, label].nonzero()[:, 0] for label in seen]
        # captions of labels that are not trained stay out of everything
        known = data.describes[:, seen].any(1)
        self.words = torch.cat([data.caption_features[known], data.word_features])

    def draw(self, part: LabelledFeatures, spread: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy features `[b, f]` of random crops and their labels `[b]`."""
        weights = 1.0 / torch.bincount(part.labels).float().clamp_min(1)
        size = self.settings.batch_size
        rows = torch.multinomial(weights[part.labels], size, replacement=True, generator=self.generator)
        crops = torch.randint(part.features.shape[1], (size,), generator=self.generator)
        chosen = part.features[rows, crops]
        noise = torch.randn(chosen.shape, generator=self.generator) * spread * self.settings.noise
        return chosen + noise, part.labels[rows]

    def draw_captions(self) -> Tensor:
        """Number of one caption of every label."""
        return torch.stack([rows[self._index(len(rows))] for rows in self._captions])

    def draw_words(self) -> Tensor:
        """Features `[w, f]` of captions and of words beyond them."""
        return self.words[torch.randint(len(self.words), (self.settings.geometry_words,), generator=self.generator)]

    def _index(self, n: int) -> int:
        return int(torch.randint(n, (1,), generator=self.generator))


def _loss(heads: nn.ModuleDict, batches: _Batches, temperature: Tensor, settings: AlignSettings) -> Tensor:
    sounds, sound_labels = batches.draw(batches.audio, heads["audio"].get_buffer("spread"))
    pictures, picture_labels = batches.draw(batches.image, heads["image"].get_buffer("spread"))
    captions = batches.draw_captions()
    audio, image = heads["audio"](sounds), heads["image"](pictures)
    text = heads["text"](batches.data.caption_features[captions])
    describes = batches.data.describes[captions]
    loss: Tensor = info_nce_loss(audio, text, positives=describes[:, sound_labels].T, temperature=temperature)
    loss = loss + info_nce_loss(image, text, positives=describes[:, picture_labels].T, temperature=temperature)
    same = sound_labels[:, None] == picture_labels[None, :]
    loss = loss + settings.audio_image_weight * info_nce_loss(audio, image, positives=same, temperature=temperature)
    if settings.geometry_weight > 0:
        words = batches.draw_words()
        kept = geometry_loss(heads["text"](words), words)
        loss = loss + settings.geometry_weight * kept
    return loss


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
