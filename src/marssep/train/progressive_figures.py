"""How far a reward can be trusted: whether it rises where the separation gets better."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from marssep.reward.encoder import RewardEncoder
from marssep.train.align import AlignmentData
from marssep.train.progressive_data import Stacked


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """One number a mixture, NaN where it is not defined.

    Attributes:
        gap: reward of the target minus that of the mixture.
        ladder: Spearman correlation with SI-SDR from the ideal mask to nearly its inverse.
        disturbed: the same among masks spoilt in unlike ways.
        explored: the same among samples of the policy.
    """

    gap: Float[np.ndarray, " m"]
    ladder: Float[np.ndarray, " m"]
    disturbed: Float[np.ndarray, " m"]
    explored: Float[np.ndarray, " m"]


def faithfulness(rewards: Float[Tensor, "m k"], made: Stacked) -> Faithfulness:
    """Compare rewards of separations with their SI-SDR, mixture by mixture."""
    target, mixture = made.columns("target")[0], made.columns("mixture")[0]
    correlations = {}
    for kind in ("ladder", "disturbed", "explored"):
        columns = made.columns(kind)
        correlations[kind] = spearman(rewards[:, columns].numpy(), made.si_sdr[:, columns].numpy())
    gap = (rewards[:, target] - rewards[:, mixture]).double().numpy()
    return Faithfulness(gap, **correlations)


def spearman(left: Float[np.ndarray, "m k"], right: Float[np.ndarray, "m k"]) -> Float[np.ndarray, " m"]:
    """Rank correlation within each row, ties sharing their mean rank; NaN where a side is constant or not finite."""
    from scipy.stats import rankdata

    if left.shape[1] < 2:
        return np.full(len(left), np.nan)
    ranks = [rankdata(side, axis=1) - (side.shape[1] + 1) / 2 for side in (left, right)]
    above = (ranks[0] * ranks[1]).sum(1)
    below = np.sqrt((ranks[0] ** 2).sum(1) * (ranks[1] ** 2).sum(1))
    known = np.isfinite(left).all(1) & np.isfinite(right).all(1) & (below > 0)
    return np.where(known, above / np.where(below > 0, below, 1.0), np.nan)


@torch.no_grad()
def similarities(
    encoder: RewardEncoder, made: Stacked, data: AlignmentData, *, anchor: str, images: Tensor | None = None
) -> Float[Tensor, "m k"]:
    """Cosine of every separation with the anchor of its mixture.

    Args:
        encoder: of any stage.
        made: separations; the first of each is the target itself.
        data: names the labels.
        anchor: key of `ANCHORS`.
        images: picture features `[m, f]` that take part in the anchor.
    """
    placed = place_separations(encoder, made)
    text = encoder.place("text", data.caption_features[data.primary[made.labels]])
    picture = None if images is None else encoder.place("image", images)
    wanted = encoder.anchors[anchor](placed[:, 0], text, picture)
    return torch.einsum("mkd,md->mk", placed, wanted)


def place_separations(encoder: RewardEncoder, made: Stacked) -> Float[Tensor, "m k d"]:
    """Embeddings of all separations."""
    placed = encoder.place_audio(made.features.flatten(0, 1), made.grids.flatten(0, 1))
    return placed.unflatten(0, made.si_sdr.shape)


@torch.no_grad()
def name_accuracy(encoder: RewardEncoder, data: AlignmentData, modality: str, split: str) -> float:
    """Share of recordings or pictures of splits that end in `split` whose nearest name is right; NaN without any."""
    part = data.audio if modality == "audio" else data.image
    chosen = part.where(lambda group: group.split("/")[0].endswith(split))
    if not chosen.groups:
        return float("nan")
    names = encoder.heads["text"](data.caption_features[data.primary])
    nearest = (encoder.heads[modality](chosen.features[:, 0]) @ names.T).argmax(1)
    return (nearest == chosen.labels).float().mean().item()


@torch.no_grad()
def crossed_accuracy(encoder: RewardEncoder, data: AlignmentData, split: str) -> float:
    """Mean of both directions between recordings and pictures of a split; NaN where they share no label."""
    parts = [part.where(lambda group: group.split("/")[0] == split) for part in (data.audio, data.image)]
    if not all(part.groups for part in parts):
        return float("nan")
    places = [encoder.heads[kind](part.features[:, 0]) for kind, part in zip(("audio", "image"), parts, strict=True)]
    shares = []
    for one, other in ((0, 1), (1, 0)):
        known = torch.isin(parts[one].labels, parts[other].labels)
        nearest = (places[one][known] @ places[other].T).argmax(1)
        shares.append((parts[other].labels[nearest] == parts[one].labels[known]).float().mean())
    return torch.stack(shares).mean().item()
