"""Retrieval figures of aligned heads: per pair of modalities, split and group."""

from typing import Any

import torch
from torch import Tensor, nn

from marssep.reward.alignment import label_accuracy
from marssep.train.align import AlignmentData, LabelledFeatures

_REPORTED = ("val", "test", "unseen")  # beginnings or ends of split names that are worth a row


@torch.no_grad()
def alignment_report(heads: nn.ModuleDict, data: AlignmentData) -> dict[str, dict[str, Any]]:
    """Label accuracy: share of queries whose nearest neighbour shows the same thing.

    Pairs: `audio->text` and `image->text` look among the first captions of all labels; `text->audio`, `text->image`
    look, for the first caption of each label, among the recordings or pictures of the group; `audio->image` and
    `image->audio` look among those of the same split. Rows are `split/group`.
    """
    heads.eval()
    names = heads["text"](data.caption_features[data.primary])
    every = list(range(len(data.labels)))
    parts = {kind: _reported(part) for kind, part in (("audio", data.audio), ("image", data.image))}
    placed = {kind: heads[kind](part.features[:, 0]) for kind, part in parts.items()}
    report: dict[str, dict[str, Any]] = {}
    for kind, part in parts.items():
        other = "image" if kind == "audio" else "audio"
        for group in sorted(set(part.groups)):
            rows = _rows(part, lambda name, group=group: name == group)  # type: ignore[misc]
            here, labels = placed[kind][rows], part.labels[rows].tolist()
            cell = report.setdefault(f"{kind}->text", {})
            cell[group] = _figure(here, names, labels, every)
            wanted = sorted(set(labels))
            report.setdefault(f"text->{kind}", {})[group] = _figure(names[wanted], here, wanted, labels)
            split = group.split("/")[0]
            there = _rows(parts[other], lambda name, split=split: name.startswith(f"{split}/"))  # type: ignore[misc]
            keys = parts[other].labels[there].tolist()
            known = [index for index, label in enumerate(labels) if label in set(keys)]
            if known:
                queries = [labels[index] for index in known]
                pair = report.setdefault(f"{kind}->{other}", {})
                pair[group] = _figure(here[known], placed[other][there], queries, keys)
    return report


def _figure(queries: Tensor, keys: Tensor, query_labels: list[int], key_labels: list[int]) -> dict[str, Any]:
    hits = label_accuracy(queries, keys, query_labels, key_labels)
    return {"accuracy": round(hits.mean().item(), 4), "n": len(hits), "labels_to_choose_from": len(set(key_labels))}


def _reported(part: LabelledFeatures) -> LabelledFeatures:
    return part.where(lambda group: group.split("/")[0].endswith(_REPORTED))


def _rows(part: LabelledFeatures, wanted: Any) -> list[int]:
    return [row for row, group in enumerate(part.groups) if wanted(group)]
