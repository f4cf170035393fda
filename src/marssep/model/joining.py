"""One model out of several: their logits averaged."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from marssep.errors import ModelError
from marssep.model.ensemble import Ensemble, EnsembleSettings
from marssep.model.film_unet import FilmUNetSettings
from marssep.model.store import LoadedModel, build_network


def join_models(models: Mapping[str, LoadedModel]) -> LoadedModel:
    """An `ensemble` of models of one grid, encoder and chunk; the rest of its config is the first one's.

    Its presence probability has yet to be fitted (`marssep models release`), and it has no checksum until it is saved.

    Args:
        models: by the name that a message may use.

    Raises:
        ModelError: if they are fewer than two, no `film_unet`s or ensembles of them, or do not fit together.
    """
    if len(models) < 2:
        raise ModelError(f"an ensemble needs at least two models, got {len(models)}.")
    (name, first), *others = models.items()
    for other, model in others:
        for field in ("spectral", "encoder", "query_dimension", "chunk_steps"):
            ours, theirs = getattr(first.config, field), getattr(model.config, field)
            if ours != theirs:
                raise ModelError(f"{other}: has {field} {theirs}, {name} has {ours}; only equal ones can be joined.")
    members: list[FilmUNetSettings] = []
    weights: dict[str, torch.Tensor] = {}
    for each, model in models.items():
        for settings, state in _networks(each, model):
            weights |= {f"members.{len(members)}.{key}": value for key, value in state.items()}
            members.append(settings)
    network = {"members": [settings.model_dump(mode="json") for settings in members]}
    config = first.config.model_copy(update={"architecture": "ensemble", "network": network})
    joined = build_network(config)
    joined.load_state_dict(weights)
    return LoadedModel(joined.eval().requires_grad_(False), config, {"members": _cards(list(models.values()))}, "")


def _networks(name: str, model: LoadedModel) -> list[tuple[FilmUNetSettings, dict[str, torch.Tensor]]]:
    config = model.config
    if config.architecture == "film_unet":
        return [(FilmUNetSettings.parse(config.network, source=name), model.network.state_dict())]
    if isinstance(model.network, Ensemble):
        settings = EnsembleSettings.parse(config.network, source=name).members
        return [(each, net.state_dict()) for each, net in zip(settings, model.network.members, strict=True)]
    raise ModelError(f"{name}: is a '{config.architecture}'; only 'film_unet's and ensembles of them can be joined.")


def _cards(models: Sequence[LoadedModel]) -> dict[str, Any]:
    """What is known of each member."""
    kept = ("classes", "data", "training", "validation_curve")
    cards: list[dict[str, Any]] = []
    for model in models:
        if "members" in model.card:
            cards.extend(model.card["members"].values())
        else:
            own = {key: model.card[key] for key in kept if key in model.card}
            cards.append({"sha256": model.sha256, **(own or {"training": model.card})})
    return {str(number): card for number, card in enumerate(cards, start=1)}
