"""Stages 2 and 3 of the progressive alignment (Eqs. 8 and 9, arXiv:2510.10509), on cached trunk features.

Stage 1 is `marssep.train.align`: its heads are what stage 2 starts from. Trunks are never touched; nor are the heads
that a stage does not name. The anchors that are trained learn beside the heads without having a say in them.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from marssep.errors import UsageError
from marssep.reward.alignment import info_nce_loss
from marssep.reward.detail import compressed
from marssep.reward.encoder import WITH_DETAIL, RewardEncoder
from marssep.reward.losses import correlation_loss, ranking_loss, triplet_loss
from marssep.train.align import AlignmentData
from marssep.train.progressive_data import Draw, Stacked
from marssep.train.progressive_figures import crossed_accuracy, faithfulness, name_accuracy, similarities
from marssep.train.progressive_settings import ProgressiveSettings, StageSettings

_TRAINED = {2: ("audio",), 3: ("audio", "image")}
_RANKED = ("target", "mixture", "other", "separator", "ladder", "disturbed")


@dataclass(frozen=True)
class ProgressiveData:
    """Everything stages 2 and 3 see.

    Attributes:
        alignment: trunk features of recordings, pictures and captions.
        training: separations of training mixtures.
        validation: of validation mixtures, by list.
    """

    alignment: AlignmentData
    training: Stacked
    validation: dict[str, Stacked]


@dataclass(frozen=True)
class StageResult:
    """What a stage left behind.

    Attributes:
        stage: 2 or 3.
        score: of validation.
        step: where it was reached; 0 is the start.
        log: one row a check.
        seconds: of training.
    """

    stage: int
    score: float
    step: int
    log: tuple[dict[str, float], ...]
    seconds: float


def train_stage(
    encoder: RewardEncoder,
    data: ProgressiveData,
    settings: ProgressiveSettings,
    *,
    stage: int,
    progress: Callable[[dict[str, float]], None] | None = None,
) -> StageResult:
    """Train one stage in place and leave the encoder as it was best on validation.

    Args:
        encoder: of the stage before, or of the same one.
        data: see there.
        settings: see there.
        stage: 2 or 3.
        progress: called with each row of the log.

    Raises:
        UsageError: another stage, or an encoder that is not ready for it.
    """
    if stage not in _TRAINED or encoder.stage not in (stage - 1, stage):
        raise UsageError(f"Stage {stage} cannot follow stage {encoder.stage}; the stages are 2 after 1 and 3 after 2.")
    if encoder.stage < WITH_DETAIL:
        cells = compressed(data.training.grids.flatten(0, 1), encoder.settings.exponent)
        encoder.detail.mean.copy_(cells.mean(0))
    encoder.stage = stage
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        try:
            return _train(encoder, data, settings, stage, progress)
        finally:
            encoder.requires_grad_(False).eval()


def trained_parameters(encoder: RewardEncoder, stage: int) -> list[nn.Parameter]:
    """What a stage may change; the rest stays bit for bit."""
    parts: list[nn.Module] = [encoder.heads[name] for name in _TRAINED[stage]]
    parts += [encoder.detail, encoder.temperature, encoder.anchors]
    return [*(parameter for part in parts for parameter in part.parameters()), encoder.share_logit]


def _train(
    encoder: RewardEncoder,
    data: ProgressiveData,
    settings: ProgressiveSettings,
    stage: int,
    progress: Callable[[dict[str, float]], None] | None,
) -> StageResult:
    chosen: StageSettings = settings.stage2 if stage == 2 else settings.stage3
    parameters = trained_parameters(encoder, stage)
    for parameter in parameters:
        parameter.requires_grad_(True)
    generator = torch.Generator().manual_seed(settings.seed + stage)
    draw = Draw(data.alignment, batch_size=settings.batch_size, noise=settings.noise, generator=generator)
    anchors = set(encoder.anchors.parameters())
    groups = [
        {"params": [parameter for parameter in parameters if parameter not in anchors], "lr": chosen.learning_rate},
        {"params": list(encoder.anchors.parameters()), "lr": chosen.learning_rate * settings.anchor_rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, chosen.steps))
    started, log = time.time(), [{"step": 0.0, **validate(encoder.eval(), data, settings, stage)}]
    best, kept = log[0], _copy(parameters)
    for step in range(1, chosen.steps + 1):
        for name in _TRAINED[stage]:
            encoder.heads[name].train()
        losses = stage_losses(encoder, data, draw, settings, stage=stage)
        optimizer.zero_grad()
        loss = torch.stack(list(losses.values())).sum()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % settings.check_every and step != chosen.steps:
            continue
        row = {"step": float(step), **validate(encoder.eval(), data, settings, stage)}
        log.append(row | {name: value.item() for name, value in losses.items()})
        if progress is not None:
            progress(log[-1])
        if row["score"] > best["score"]:
            best, kept = row, _copy(parameters)
        if step - best["step"] >= settings.patience * settings.check_every:
            break
    with torch.no_grad():
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)
    return StageResult(stage, best["score"], int(best["step"]), tuple(log), time.time() - started)


def stage_losses(
    encoder: RewardEncoder, data: ProgressiveData, draw: Draw, settings: ProgressiveSettings, *, stage: int
) -> dict[str, Tensor]:
    """Weighted losses of one step, by name."""
    chosen: StageSettings = settings.stage2 if stage == 2 else settings.stage3
    temperature = encoder.temperature()
    first, second, labels = draw.recordings()
    sounds, again, rivals = (encoder.heads["audio"](part) for part in (first, second, draw.rivals(labels)))
    names = encoder.heads["text"](data.alignment.caption_features[data.alignment.primary])
    own = nn.functional.one_hot(labels, len(names)).bool()
    of_stage_1 = info_nce_loss(sounds, names, positives=own, temperature=temperature)
    between = info_nce_loss(sounds, again, positives=labels[:, None] == labels, temperature=temperature)
    related = triplet_loss(sounds, again, rivals, margin=settings.triplet_margin)
    rows = draw.index(len(data.training.labels), settings.mixtures)
    placed, text = _mixtures(encoder, data, draw, rows)
    target, mixture = placed[:, 0], placed[:, 1]
    # the target is nearer than the mixture to its name, to what name and sound make together, and to itself
    blended = encoder.anchors["mean"](target, text, None)
    apart = torch.stack(
        [triplet_loss(wanted, target, mixture, margin=settings.mixture_margin) for wanted in (text, blended, target)]
    ).sum()
    losses = {"replay_1": chosen.replay * of_stage_1}
    if stage == 2:
        losses |= {"info_nce": chosen.info_nce * between, "triplet": chosen.triplet * (apart + related)}
        picture = None
    else:
        features, shown = draw.pictures()
        pictures = encoder.heads["image"](features)
        same = labels[:, None] == shown[None, :]
        crossed = info_nce_loss(sounds, pictures, positives=same, temperature=temperature)
        named = nn.functional.one_hot(shown, len(names)).bool()
        of_stage_1 = of_stage_1 + info_nce_loss(pictures, names, positives=named, temperature=temperature)
        picture = encoder.place("image", draw.pictures_of(data.training.labels[rows]))
        losses = {
            "replay_1": chosen.replay * of_stage_1,
            "replay_2": chosen.replay * (between + apart + related),
            "info_nce": chosen.info_nce * crossed,
            "triplet": chosen.triplet * triplet_loss(picture, target, mixture, margin=settings.mixture_margin),
        }
    quality = data.training.si_sdr[rows]
    wanted = {"audio": target, "mean": blended, "text": text}
    if picture is not None:
        wanted["shown"] = encoder.anchors["mean"](target, text, picture)
    for name, anchor in wanted.items():
        losses[f"consistency_{name}"] = (chosen.consistency / len(wanted)) * _consistency(
            placed, anchor, quality, made=data.training, settings=settings, weight=chosen.correlation
        )
    losses["anchors"] = _anchor_losses(encoder, placed, (text, picture), quality, made=data.training, settings=settings)
    return losses


def _mixtures(encoder: RewardEncoder, data: ProgressiveData, draw: Draw, rows: Tensor) -> tuple[Tensor, Tensor]:
    made = data.training
    features, grids = made.features[rows], made.grids[rows]
    placed = encoder.place_audio(features.flatten(0, 1), grids.flatten(0, 1)).unflatten(0, features.shape[:2])
    return placed, encoder.place("text", draw.captions(made.labels[rows]))


def _consistency(
    placed: Tensor, wanted: Tensor, quality: Tensor, *, made: Stacked, settings: ProgressiveSettings, weight: float
) -> Tensor:
    near = torch.einsum("mkd,md->mk", placed, wanted)
    ranked, explored = made.columns(*_RANKED), made.columns("explored")
    ranking = ranking_loss(near[:, ranked], quality[:, ranked], slope=settings.slope, cap=settings.cap)
    # the scale of the hinge is a few hundredths, that of the correlation about one
    return 10.0 * ranking + weight * correlation_loss(near[:, explored], quality[:, explored])


def _anchor_losses(
    encoder: RewardEncoder,
    placed: Tensor,
    others: tuple[Tensor, Tensor | None],
    quality: Tensor,
    *,
    made: Stacked,
    settings: ProgressiveSettings,
) -> Tensor:
    """The anchors with weights of their own learn the ranking; embeddings are held fixed."""
    fixed = placed.detach()
    text, picture = others[0].detach(), None if others[1] is None else others[1].detach()
    total = fixed.new_zeros(())
    for name in ("learnable", "mlbp"):
        for shown in (None,) if picture is None else (None, picture):
            wanted = encoder.anchors[name](fixed[:, 0], text, shown)
            ranking, alike = anchor_losses(wanted, fixed, quality, made=made, settings=settings)
            total = total + ranking + alike
    return total


def anchor_losses(
    wanted: Tensor, placed: Tensor, quality: Tensor, *, made: Stacked, settings: ProgressiveSettings
) -> tuple[Tensor, Tensor]:
    """What an anchor learns by: the ranking of separations, and InfoNCE between anchors and targets.

    The second keeps the target what is nearest, and every target a place of its own.

    Args:
        wanted: anchors `[m, d]`.
        placed: embeddings of the separations `[m, k, d]`.
        quality: dB, `[m, k]`.
        made: names the columns.
        settings: of the ranking.
    """
    ranking = _consistency(placed, wanted, quality, made=made, settings=settings, weight=1.0)
    own = torch.eye(len(wanted), dtype=torch.bool)
    return ranking, info_nce_loss(wanted, placed[:, 0], positives=own, temperature=0.1)


@torch.no_grad()
def validate(
    encoder: RewardEncoder, data: ProgressiveData, settings: ProgressiveSettings, stage: int
) -> dict[str, Any]:
    """Figures of validation; `score` is the mean of those a stage is after, in [-1, 1]."""
    figures: dict[str, list[float]] = {"gap": [], "ladder": [], "disturbed": [], "explored": []}
    for made, anchor in product(data.validation.values(), settings.anchors):
        near = similarities(encoder, made, data.alignment, anchor=anchor)
        found = faithfulness(near, made)
        for name, values in figures.items():
            values.append(float(np.nanmean(getattr(found, name))))
    row = {name: float(np.mean(values)) for name, values in figures.items()}
    row["audio_text"] = name_accuracy(encoder, data.alignment, "audio", "val")
    row["image_text"] = name_accuracy(encoder, data.alignment, "image", "val")
    row["audio_image"] = crossed_accuracy(encoder, data.alignment, "val")
    wanted = [
        "gap",
        "ladder",
        "disturbed",
        "explored",
        "audio_text",
        *(["image_text", "audio_image"] if stage == 3 else []),
    ]
    row["score"] = float(np.nanmean([row[name] for name in wanted]))
    return row


def _copy(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
