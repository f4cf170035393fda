"""The faithfulness report: for every stage, anchor and reward, whether it rises where the separation gets better."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marssep.metrics import mean_interval, paired_difference
from marssep.reward.anchors import ANCHORS
from marssep.reward.encoder import RewardEncoder
from marssep.train.align import AlignmentData, LabelledFeatures
from marssep.train.progressive_data import Stacked
from marssep.train.progressive_figures import faithfulness, place_separations, similarities

FIGURES = ("gap", "relative_gap", "ladder", "disturbed", "explored")
_DIRECTIONS = tuple(
    (one, other) for one in ("audio", "text", "image") for other in ("audio", "text", "image") if one != other
)
COMPARED = ("text", "mean", "audio")
"""Anchors without weights of their own: only these mean the same in every stage."""
FUSED = ("mean", "learnable", "max", "mlbp")
SUMS = {
    "cosine + log_magnitude": {"cosine": 1.0, "log_magnitude": 1.0},
    "margin + si_sdr": {"margin": 1.0, "si_sdr": 1.0},
}
"""Weighted sums that the report tries."""


@torch.no_grad()
def reward_report(
    encoders: Mapping[int, RewardEncoder],
    made: Stacked,
    data: AlignmentData,
    *,
    anchor: str,
    pictures: Tensor | None = None,
) -> dict[str, Any]:
    """All figures with 95 % bootstrap intervals over mixtures.

    Args:
        encoders: by stage.
        made: separations of test mixtures.
        data: of the corpus; its test recordings and pictures are retrieved.
        anchor: the default anchor, for the comparison of stages and the rewards.
        pictures: features `[m, f]` of a picture of each target, NaN where there is none.
    """
    near = {
        stage: {name: similarities(encoder, made, data, anchor=name) for name in ANCHORS}
        for stage, encoder in encoders.items()
    }
    report: dict[str, Any] = {
        "n_mixtures": len(made.names),
        "anchor": anchor,
        "stages": {
            str(stage): {name: figures(values, made) for name, values in rows.items()} for stage, rows in near.items()
        },
        "steps": {name: _steps({stage: rows[name] for stage, rows in near.items()}, made) for name in COMPARED},
        "rewards": rewards(encoders[max(encoders)], made, data, anchor=anchor),
        "retrieval": {str(stage): retrieval(encoder, data) for stage, encoder in encoders.items()},
        "detail_share": {str(stage): round(encoder.share().item(), 4) for stage, encoder in encoders.items()},
    }
    report["without_detail"] = {
        str(stage): {
            name: figures(_without_detail(encoder, made, data, name), made) for name in ("text", "audio", "mean")
        }
        for stage, encoder in encoders.items()
    }
    if pictures is not None:
        report["with_picture"] = _with_pictures(encoders, made, data, pictures)
    return report


def figures(values: Tensor, made: Stacked) -> dict[str, dict[str, float | int | None]]:
    """Means with intervals of the faithfulness of a reward `[m, k]`."""
    return {name: _rounded(mean_interval(each, list(made.names))) for name, each in _parts(values, made).items()}


def _parts(values: Tensor, made: Stacked) -> dict[str, np.ndarray]:
    """Besides the gap in the reward's own unit, the gap relative to how much the reward varies over all separations."""
    found = faithfulness(values, made)
    relative = found.gap / values.double().std().clamp_min(1e-9).item()
    return {"relative_gap": relative, **{name: getattr(found, name) for name in FIGURES if name != "relative_gap"}}


def rewards(
    encoder: RewardEncoder, made: Stacked, data: AlignmentData, *, anchor: str
) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """Figures of every reward that the cached separations allow, on the last stage."""
    values = reward_values(encoder, made, data, anchor=anchor)
    for name, weights in SUMS.items():
        if weights.keys() <= values.keys():
            values[name] = torch.stack([weight * values[part] for part, weight in weights.items()]).sum(0)
    return {name: figures(each, made) for name, each in values.items()}


def reward_values(encoder: RewardEncoder, made: Stacked, data: AlignmentData, *, anchor: str) -> dict[str, Tensor]:
    """Rewards `[m, k]` of all separations, by name; the signal rewards as they were rendered."""
    placed = place_separations(encoder, made)
    names = encoder.place("text", data.caption_features[data.primary])
    blend = encoder.anchors[anchor]
    wanted = blend(placed[:, 0], names[made.labels], None)
    known = (made.others >= 0)[:, None]
    rest = blend(placed[:, 2], torch.where(known, names[made.others.clamp_min(0)], placed[:, 2]), None)
    near, far = (torch.einsum("mkd,md->mk", placed, place) for place in (wanted, rest))
    return {"cosine": near, "margin": (near - far) / 2, **made.signals}


@torch.no_grad()
def retrieval(encoder: RewardEncoder, data: AlignmentData) -> dict[str, dict[str, float | int | None]]:
    """Share of queries with a right answer among the nearest one and five, in six directions.

    Queries and keys are the test recordings and pictures of classes with training recordings, and the first captions;
    recordings and pictures look for names among those of all labels of the corpus. `unseen: audio->text` asks for
    recordings of classes that have no training recordings, among all names.
    """
    trained = set(data.audio.where(lambda group: group.startswith("train/")).labels.tolist())
    names = encoder.heads["text"](data.caption_features[data.primary])
    every = torch.arange(len(data.labels))
    places: dict[str, tuple[Tensor, Tensor]] = {"text": (names, every)}
    for kind, part in (("audio", data.audio), ("image", data.image)):
        places[kind] = _test(encoder, part, kind, trained)
    rows = {}
    for one, other in _DIRECTIONS:
        (asked, labels), (keys, answers) = places[one], places[other]
        known = torch.isin(labels, answers) if len(answers) else torch.zeros(len(labels), dtype=torch.bool)
        rows[f"{one}->{other}"] = _hits(asked[known], labels[known], keys, answers)
    unseen = data.audio.where(lambda group: group.startswith("unseen/"))
    if unseen.groups:
        rows["unseen: audio->text"] = _hits(encoder.heads["audio"](unseen.features[:, 0]), unseen.labels, names, every)
    return rows


def markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown tables."""
    default, last = report["anchor"], max(report["stages"])
    shown = report.get("with_picture") or {"stages": {}, "steps": {}, "n_mixtures": 0}
    stages = [
        (f"stage {stage}, {name}", rows[name]) for name in COMPARED for stage, rows in report["stages"].items()
    ] + [(f"stage {stage}, mean with picture", rows["mean"]) for stage, rows in shown["stages"].items()]
    steps = [(f"{step}, {name}", row) for name, rows in report["steps"].items() for step, row in rows.items()]
    steps += [(f"{step}, mean with picture", row) for rows in shown["steps"].values() for step, row in rows.items()]
    anchors = [*report["stages"][last].items()]
    anchors += [(f"{name}, with picture", row) for name, row in shown["stages"].get(last, {}).items()]
    local = [(f"{name} ({row['gap']['n']} mixtures)", row) for name, row in report.get("local_rewards", {}).items()]
    plain = [
        (f"stage {stage}, {name}", row)
        for stage, rows in report["without_detail"].items()
        for name, row in rows.items()
    ]
    count = f"{report['n_mixtures']} mixtures ({shown['n_mixtures']} with a picture)"
    parts = [
        _table(f"Stages, {count}", stages),
        _table("Difference between stages", steps),
        _table("The first part of the embedding alone, by anchor", plain),
        _table(f"Anchors, stage {last}", anchors),
        _table(f"Rewards, stage {last}, anchor `{default}`", [*report["rewards"].items(), *local]),
        _retrieval_table(report["retrieval"]),
    ]
    return "\n".join(parts)


def _table(title: str, rows: Sequence[tuple[str, Mapping[str, Mapping[str, Any]]]]) -> str:
    head = "| | gap | relative gap | ladder | disturbed | explored |\n|---|---|---|---|---|---|\n"
    return f"{title}\n\n{head}" + "".join(_row(name, row) for name, row in rows)


def _retrieval_table(stages: Mapping[str, Mapping[str, Any]]) -> str:
    names = list(next(iter(stages.values())))
    head = "| R@1 / R@5, % | n | " + " | ".join(f"stage {stage}" for stage in stages) + " |\n"
    lines = [f"Retrieval, test split\n\n{head}|---|---|" + "---|" * len(stages) + "\n"]
    for name in names:
        cells = [f"{100 * row[name]['r1']:.0f} / {100 * row[name]['r5']:.0f}" for row in stages.values()]
        count = next(iter(stages.values()))[name]["n"]
        lines.append(f"| {name} | {count} | " + " | ".join(cells) + " |\n")
    return "".join(lines)


def _row(name: str, row: Mapping[str, Mapping[str, Any]]) -> str:
    cells = []
    for figure in FIGURES:
        each = row[figure]
        known = each["mean"] is not None
        cells.append(f"{each['mean']:.3f} [{each['low']:.3f}, {each['high']:.3f}]" if known else "–")
    return f"| {name} | " + " | ".join(cells) + " |\n"


def _steps(near: Mapping[int, Tensor], made: Stacked) -> dict[str, Any]:
    """Paired differences of each stage and the one before."""
    found = {stage: _parts(values, made) for stage, values in near.items()}
    stages = sorted(found)
    rows = {}
    for before, after in pairwise(stages):
        row = {}
        for name in FIGURES:
            ours, theirs = (found[stage][name] for stage in (after, before))
            row[name] = _rounded(paired_difference(ours, theirs, list(made.names)))
        rows[f"{after} - {before}"] = row
    return rows


def _without_detail(encoder: RewardEncoder, made: Stacked, data: AlignmentData, anchor: str) -> Tensor:
    """Similarities by the first part of the embedding alone: what it means without what it consists of."""
    kept = encoder.share_logit.detach().clone()
    encoder.share_logit.fill_(-torch.inf)
    try:
        return similarities(encoder, made, data, anchor=anchor)
    finally:
        encoder.share_logit.copy_(kept)


def _with_pictures(
    encoders: Mapping[int, RewardEncoder], made: Stacked, data: AlignmentData, pictures: Tensor
) -> dict[str, Any]:
    """Anchors that a picture takes part in, of the mixtures that have one."""
    shown = [row for row in range(len(pictures)) if bool(pictures[row].isfinite().all())]
    if not shown:
        return {}
    part = take(made, shown)
    near = {
        stage: {name: similarities(encoder, part, data, anchor=name, images=pictures[shown]) for name in FUSED}
        for stage, encoder in encoders.items()
    }
    return {
        "n_mixtures": len(shown),
        "stages": {
            str(stage): {name: figures(values, part) for name, values in rows.items()} for stage, rows in near.items()
        },
        "steps": {"mean": _steps({stage: rows["mean"] for stage, rows in near.items()}, part)},
    }


def take(made: Stacked, rows: list[int]) -> Stacked:
    """Some of the mixtures."""
    return Stacked(
        features=made.features[rows],
        grids=made.grids[rows],
        si_sdr=made.si_sdr[rows],
        kinds=made.kinds,
        labels=made.labels[rows],
        others=made.others[rows],
        names=tuple(made.names[row] for row in rows),
        pictures=tuple(made.pictures[row] for row in rows),
        signals={name: values[rows] for name, values in made.signals.items()},
    )


def _test(encoder: RewardEncoder, part: LabelledFeatures, kind: str, trained: set[int]) -> tuple[Tensor, Tensor]:
    chosen = part.where(lambda group: group.startswith("test/"))
    rows = [row for row, label in enumerate(chosen.labels.tolist()) if label in trained]
    return encoder.heads[kind](chosen.features[rows, 0]), chosen.labels[rows]


def _hits(asked: Tensor, labels: Tensor, keys: Tensor, answers: Tensor) -> dict[str, float | int | None]:
    if not len(asked) or not len(keys):
        return {"r1": float("nan"), "r5": float("nan"), "low": None, "high": None, "n": 0, "keys": len(keys)}
    order = (asked @ keys.T).topk(min(5, len(keys)), dim=1).indices
    right = (answers[order] == labels[:, None]).double().numpy()
    interval = mean_interval(right[:, 0])
    return {
        "r1": round(interval.mean, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
        "r5": round(float(right.any(1).mean()), 4),
        "n": len(asked),
        "keys": len(keys),
    }


def _rounded(interval: Any) -> dict[str, float | int | None]:
    known = bool(np.isfinite(interval.mean))
    rounded = {name: round(getattr(interval, name), 4) if known else None for name in ("mean", "low", "high")}
    return {**rounded, "n": interval.n}
