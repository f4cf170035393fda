"""From a training run to a model that people use: what only validation may decide, and the card that tells the rest."""

import copy
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from marssep.corpus.lists import read_list
from marssep.corpus.mixing import render
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.errors import ModelError
from marssep.evaluate.path import separate_queries
from marssep.evaluate.presence import PresenceChoice, choose_from_scores, fit_evidence
from marssep.evaluate.protocol import EvaluateSettings, evaluate
from marssep.evaluate.scores import Score
from marssep.evaluate.versions import library_versions
from marssep.model import LoadedModel, ModelConfig, average_models, in_half, load_model, save_facts, save_model
from marssep.query import QueryEncoder, load_encoder
from marssep.query.bank import EmbeddingBank
from marssep.runtime.hearing import EvidenceWeights
from marssep.separate.presence import Evidence
from marssep.settings import Settings
from marssep.train.validation import Validator, mean_improvement, validate

_ROLES = {"members": "joined", "averaged": "mean"}  # what a model is made of, by the key of its card
_KEPT = ("classes", "data", "training", "validation_curve", *_ROLES, "soup")


class ReleaseSettings(Settings):
    """What is tried on validation."""

    lists: tuple[str, ...] = ("open-val", "esc10-val")
    """Validation lists; never a test list."""
    crowded: tuple[str, ...] = ("open-val-3", "open-val-4")
    """More of them for the presence threshold: among three or four sounds each is harder to tell from an absent one."""
    scales: tuple[float, ...] = (0.8, 0.9, 1.0, 1.25, 1.5, 2.0)
    """Factors of the mask's logits."""
    mixtures: int = 100
    """Mixtures of each list for the choice of weights and factor; the presence threshold is chosen on all."""


@dataclass(frozen=True, slots=True)
class Release:
    """What was decided.

    Attributes:
        weights: key of `weights_tried` that was best.
        weights_tried: mean SI-SDRi by text over the lists for the run's best and last weights and their mean, dB.
        scale: factor of the logits.
        tried: mean SI-SDRi by text over the lists for every factor, dB.
        evidence: what the presence probability is made of.
        presence: the threshold and what it gives on validation.
    """

    weights: str
    weights_tried: dict[str, float]
    scale: float
    tried: dict[str, float]
    evidence: EvidenceWeights
    presence: PresenceChoice


@dataclass(frozen=True, slots=True)
class _Candidate:
    model: LoadedModel
    encoder: QueryEncoder


def release(
    run: Path, output: Path, *, corpus: Corpus, encoder: QueryEncoder, bank: EmbeddingBank, settings: ReleaseSettings
) -> Release:
    """Sharpen the run's best model as validation likes it, choose its presence threshold, and write it with its card.

    Args:
        run: folder of a training run, or of a model that `join` or `mean` made.
        output: folder of the released model.
        corpus: the corpus it is validated on.
        encoder: the query encoder.
        bank: embeddings of the corpus.
        settings: what is tried.

    Raises:
        ModelError: if the run has no best model, data record or journal, or is a model that was not made of several.
    """
    candidates = _candidates(run)
    spectrogram = next(iter(candidates.values())).spectral
    watched = [
        Validator(name, corpus, bank, spectrogram=spectrogram, limit=settings.mixtures) for name in settings.lists
    ]
    weights_tried = {name: _mean_text(model, watched) for name, model in candidates.items()}
    weights = max(weights_tried, key=lambda name: weights_tried[name])
    loaded = candidates[weights]
    tried = {}
    for scale in settings.scales:
        sharpened = dataclasses.replace(loaded, network=copy.deepcopy(loaded.network))
        sharpened.network.sharpen(scale)
        tried[f"{scale:g}"] = _mean_text(sharpened, watched)
    scale = float(max(tried, key=lambda key: tried[key]))
    loaded.network.sharpen(scale)
    round_weights(loaded.network)  # as it is written, so that the rest is fitted to what people get
    facts = _facts(loaded.card)
    rivals = {"presence_rivals": tuple(label.replace("_", " ") for label in facts["classes"])}
    loaded = dataclasses.replace(loaded, config=loaded.config.model_copy(update=rivals))
    evidence, presence, config = _fit_gate(loaded, encoder, corpus, settings)
    decided = Release(weights, weights_tried, scale, tried, evidence, presence)
    save_model(output, loaded.network, config, card=facts | _decision(decided), half=True)
    return decided


def fit_gate(folder: Path, *, corpus: Corpus, settings: ReleaseSettings) -> PresenceChoice:
    """Fit the presence of a released model again, as `release` does; its weights stay untouched.

    For when what comes out of a model changes without it, as with another adaptation of its masks.

    Args:
        folder: of the model; its config and card are written anew.
        corpus: the corpus it is validated on.
        settings: the lists.

    Raises:
        ModelError: if it is no released model.
    """
    loaded = load_model(folder)
    if "released" not in loaded.card:
        raise ModelError(f"{folder}: has no record of a release; fit its presence with 'marssep models release'.")
    evidence, presence, config = _fit_gate(loaded, load_encoder(loaded.config.encoder), corpus, settings)
    decided = {"evidence": dataclasses.asdict(evidence), "presence": dataclasses.asdict(presence)}
    card = loaded.card | {"released": loaded.card["released"] | decided, "versions": library_versions()}
    save_facts(folder, config, card=card)
    return presence


def _fit_gate(
    loaded: LoadedModel, encoder: QueryEncoder, corpus: Corpus, settings: ReleaseSettings
) -> tuple[EvidenceWeights, PresenceChoice, ModelConfig]:
    """The weights of the evidence, the thresholds, and the config with both."""
    evidence = _fit_presence(loaded, encoder, corpus, settings)
    fitted = {f"presence_{name}": round(value, 5) for name, value in dataclasses.asdict(evidence).items()}
    loaded = dataclasses.replace(loaded, config=loaded.config.model_copy(update=fitted))
    scores: list[Score] = []
    measure = EvaluateSettings(modalities=("text",), baselines=(), bss_mixtures=0, resamples=10)
    for name in (*settings.lists, *settings.crowded):
        report = evaluate(_Candidate(loaded, encoder), corpus, mixtures=name, settings=measure)
        scores.extend(report.scores)
    presence = choose_from_scores(scores, absent_level_db=loaded.config.quiet_db)
    low = None if presence.quiet_threshold is None else round(presence.quiet_threshold, 4)
    thresholds = {"presence_threshold": round(presence.threshold, 4), "quiet_threshold": low}
    return evidence, presence, loaded.config.model_copy(update=thresholds)


@torch.no_grad()
def round_weights(network: nn.Module) -> None:
    """Round what `save_model(half=True)` writes in half precision."""
    for parameter in network.parameters():
        parameter.copy_(in_half(parameter))


def of_run(run: Path, name: str = "best") -> LoadedModel:
    """A model that a training run kept; its card says what is known of the run.

    Args:
        run: folder of the run.
        name: of the model's folder in it.

    Raises:
        ModelError: if there is no such model, or the run has no data record or journal.
    """
    model = load_model(run / name)
    return dataclasses.replace(model, card=run_facts(run, model.card))


def first_model(run: Path) -> LoadedModel:
    """A model made of several, or the best one of a training run.

    Raises:
        ModelError: if it is neither.
    """
    if not (run / "config.json").is_file():
        return of_run(run)
    model = load_model(run)
    if _ROLES.keys() & model.card.keys():
        return model
    return dataclasses.replace(model, card=run_facts(run, model.card))


def _candidates(run: Path) -> dict[str, LoadedModel]:
    """The run's best model, its last one and the mean of their weights, which often does better than either."""
    best = first_model(run)
    for role, name in _ROLES.items():
        if role in best.card:
            return {name: best}
    if not (run / "last").is_dir():
        return {"best": best}
    last = of_run(run, "last")
    mean = average_models({"best": best, "last": last})
    return {"best": best, "last": last, "mean": dataclasses.replace(last, network=mean.network)}


def _mean_text(model: LoadedModel, watched: Sequence[Validator]) -> float:
    return round(mean_improvement(validate(watched, model.network)), 4)


def _fit_presence(
    model: LoadedModel, encoder: QueryEncoder, corpus: Corpus, settings: ReleaseSettings
) -> EvidenceWeights:
    evidence: list[Evidence] = []
    present: list[bool] = []
    for spec in (spec for name in settings.lists for spec in read_list(name)):
        texts = [query.text for query in (*spec.queries, *((spec.absent,) if spec.absent else ()))]
        mixture = torch.from_numpy(render(spec, corpus).mixture)
        separated = separate_queries(
            model, encoder, mixture, CORPUS_RATE, queries=encoder.embed_text(texts), listening=True
        )
        evidence += separated.evidence
        present += [index < len(spec.queries) for index in range(len(texts))]
    return fit_evidence(evidence, present)


def _facts(card: dict[str, Any]) -> dict[str, Any]:
    facts = {"licence": "Apache-2.0", "date": datetime.now(UTC).date().isoformat()}
    return facts | {key: value for key, value in card.items() if key in _KEPT}


def _decision(decided: Release) -> dict[str, Any]:
    return {"released": dataclasses.asdict(decided), "versions": library_versions()}


def run_facts(run: Path, training: dict[str, Any]) -> dict[str, Any]:
    """What a model's card says of its training run: classes, data, settings and how validation went.

    Raises:
        ModelError: if the run has no data record or journal.
    """
    data: dict[str, Any] = json.loads(_of_run(run / "data.json"))
    lines = [json.loads(line) for line in _of_run(run / "journal.jsonl").splitlines()]
    return {
        "classes": data.pop("classes"),
        "data": data,
        "training": training,
        "validation_curve": [line for line in lines if any(key.endswith("/text") for key in line)],
    }


def _of_run(path: Path) -> str:
    if not path.is_file():
        raise ModelError(f"{path}: no such file; a model is released from the folder of its training run.")
    return path.read_text(encoding="utf-8")
