"""Greedy soup: the mean of as many weights as make it better on validation (Wortsman et al. 2022)."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from marssep.corpus.store import Corpus
from marssep.errors import ModelError
from marssep.evaluate.release import of_run
from marssep.model import LoadedModel, average_models, load_model
from marssep.query.bank import EmbeddingBank
from marssep.settings import Settings
from marssep.train.validation import Validator, mean_improvement, validate

_KINDS = ("text", "audio", "image")


class SoupSettings(Settings):
    """What decides."""

    lists: tuple[str, ...] = ("open-val", "esc10-val")
    """Committed validation lists."""
    mixtures: int = 100
    """Mixtures of each list."""


@dataclasses.dataclass(frozen=True, slots=True)
class Soup:
    """What came of it.

    Attributes:
        model: the mean; it has no checksum until it is saved.
        taken: names of the models in it, in the order they were added: the best one first.
        figure: of the mean on validation, dB.
        alone: figure of each model alone.
    """

    model: LoadedModel
    taken: tuple[str, ...]
    figure: float
    alone: dict[str, float]


def ingredients(names: Iterable[str]) -> dict[str, LoadedModel]:
    """Models by name; of a training run all that it kept, with what is known of the run, each weights once.

    Args:
        names: shipped models' names, folders of models, or folders of training runs.

    Raises:
        ModelError: if a folder is neither, or a run lacks its data record or journal.
    """
    found: dict[str, LoadedModel] = {}
    for name in names:
        run = Path(name)
        if not (run / "best").is_dir():
            found[name] = load_model(name)
            continue
        for folder in (run / "best", run / "last", *sorted(run.glob("at-*"))):
            if folder.is_dir():
                found[str(folder)] = of_run(run, folder.name)
    once = {model.sha256: name for name, model in reversed(found.items())}
    return {name: model for name, model in found.items() if once[model.sha256] == name}


def greedy_soup(
    models: Mapping[str, LoadedModel], score: Callable[[LoadedModel], float], *, report: Callable[[str], None]
) -> Soup:
    """Begin with the best model; add the others, the better ones first, wherever the mean of the weights gets better.

    Args:
        models: of one shape, trained on from one another.
        score: dB, the more the better.
        report: told of every score.

    Raises:
        ModelError: if they do not fit together, or no mean is better than the best one alone.
    """
    alone: dict[str, float] = {}
    for name, model in models.items():
        alone[name] = score(model)
        report(f"{name}: {alone[name]:.3f} dB alone")
    best, *others = sorted(alone, key=lambda name: -alone[name])
    taken, made, figure = [best], models[best], alone[best]
    for name in others:
        tried = average_models({each: models[each] for each in (*taken, name)})
        reached = score(tried)
        report(f"and {name}: {reached:.3f} dB" + (", taken" if reached > figure else ""))
        if reached > figure:
            taken, made, figure = [*taken, name], tried, reached
    if len(taken) == 1:
        raise ModelError(f"{best}: its mean with any other one is no better than it is alone; release it as it is.")
    record = {"figure": round(figure, 4), "alone": [round(value, 4) for value in alone.values()], "taken": len(taken)}
    return Soup(dataclasses.replace(made, card=made.card | {"soup": record}), tuple(taken), figure, alone)


def validation_score(
    first: LoadedModel, corpus: Corpus, bank: EmbeddingBank, settings: SoupSettings
) -> Callable[[LoadedModel], float]:
    """Mean SI-SDRi over kinds of query and lists, for models of the first one's grid."""
    validators = [
        Validator(name, corpus, bank, spectrogram=first.spectral, limit=settings.mixtures) for name in settings.lists
    ]

    return lambda model: mean_improvement(validate(validators, model.network), kinds=_KINDS)
