"""One model out of several: their logits averaged, or their weights."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from marssep.errors import ModelError
from marssep.model.ensemble import Ensemble, EnsembleSettings, MemberSettings
from marssep.model.film_unet import FilmUNet, FilmUNetSettings
from marssep.model.store import LoadedModel, build_network


def join_models(models: Mapping[str, LoadedModel]) -> LoadedModel:
    """An `ensemble` of models of one encoder, chunk and frequency axis; the rest of its config is the first one's.

    Its grid is the finest of theirs. Its presence probability has yet to be fitted (`marssep models release`), and it
    has no checksum until it is saved.

    Args:
        models: by the name that a message may use.

    Raises:
        ModelError: if they are fewer than two, no `film_unet`s or ensembles of them, or do not fit together.
    """
    if len(models) < 2:
        raise ModelError(f"an ensemble needs at least two models, got {len(models)}.")
    (name, first), *others = models.items()
    for other, model in others:
        for field in ("encoder", "query_dimension", "chunk_steps"):
            _same(field, getattr(first.config, field), getattr(model.config, field), names=(name, other))
        axis = [each.config.spectral.model_copy(update={"n_bands": 0}) for each in (first, model)]
        _same("spectral", *axis, names=(name, other))
    spectral = max((model.config.spectral for model in models.values()), key=lambda each: each.n_bands)
    members: list[MemberSettings] = []
    networks: list[FilmUNet] = []
    for each, model in models.items():
        for settings, network in _networks(each, model):
            rows = None if network.n_bands == spectral.n_bands else network.n_bands
            members.append(MemberSettings(**settings.model_dump() | {"n_bands": rows}))
            networks.append(network)
    joined = EnsembleSettings(members=tuple(members))
    changes = {"architecture": "ensemble", "network": joined.model_dump(mode="json"), "spectral": spectral}
    config = first.config.model_copy(update=changes)
    built = build_network(config)
    assert isinstance(built, Ensemble)
    for ours, theirs in zip(built.networks(), networks, strict=True):
        ours.load_state_dict(theirs.state_dict())
    return LoadedModel(built.eval().requires_grad_(False), config, _card("members", list(models.values())), "")


@torch.no_grad()
def average_models(models: Mapping[str, LoadedModel]) -> LoadedModel:
    """A model whose weights are the mean of theirs: sensible for networks that were trained on from one another.

    The rest of its config is the first one's; it has no checksum until it is saved.

    Args:
        models: by the name that a message may use.

    Raises:
        ModelError: if they are fewer than two, or not of one shape, grid and encoder.
    """
    if len(models) < 2:
        raise ModelError(f"a mean needs at least two models, got {len(models)}.")
    (name, first), *others = models.items()
    network = copy.deepcopy(first.network)
    state = network.state_dict()
    for count, (other, model) in enumerate(others, start=2):
        for field in ("architecture", "network", "spectral", "encoder", "query_dimension", "chunk_steps"):
            _same(field, getattr(first.config, field), getattr(model.config, field), names=(name, other))
        theirs = model.network.state_dict()
        for key, value in state.items():
            if value.is_floating_point():
                value.lerp_(theirs[key], 1.0 / count)
    return LoadedModel(network, first.config, _card("averaged", list(models.values())), "")


def _same(field: str, ours: Any, theirs: Any, *, names: tuple[str, str]) -> None:
    if ours != theirs:
        raise ModelError(f"{names[1]}: has {field} {theirs}, {names[0]} has {ours}; only equal ones go together.")


def _networks(name: str, model: LoadedModel) -> list[tuple[FilmUNetSettings, FilmUNet]]:
    if isinstance(model.network, FilmUNet):
        return [(model.network.settings, model.network)]
    if isinstance(model.network, Ensemble):
        return [(network.settings, network) for network in model.network.networks()]
    architecture = model.config.architecture
    raise ModelError(f"{name}: is a '{architecture}'; only 'film_unet's and ensembles of them can be joined.")


def _card(role: Literal["members", "averaged"], models: Sequence[LoadedModel]) -> dict[str, Any]:
    """What is known of each, and the classes that any of them was trained on."""
    kept = ("classes", "data", "training", "validation_curve", "averaged")
    cards: list[dict[str, Any]] = []
    for model in models:
        if "members" in model.card:
            cards.extend(model.card["members"].values())
        else:
            own = {key: model.card[key] for key in kept if key in model.card}
            cards.append({"sha256": model.sha256, **(own or {"training": model.card})})
    classes = sorted({label for card in cards for label in card.get("classes", [])})
    return {"classes": classes, role: {str(number): card for number, card in enumerate(cards, start=1)}}
