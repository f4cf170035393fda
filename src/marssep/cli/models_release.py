"""`marssep models join`, `mean`, `soup`, `release` and `gate`: make a usable model out of training runs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from marssep.corpus.store import Corpus
    from marssep.evaluate.presence import PresenceChoice
    from marssep.model import LoadedModel
    from marssep.query import QueryEncoder
    from marssep.query.bank import EmbeddingBank


def join(models: list[str], *, output: Annotated[Path, Parameter(name=["--output", "-o"])]) -> None:
    """Make one model of several of the same grid and encoder; `marssep models release` then makes it usable.

    Args:
        models: Shipped models' names, folders of models, or folders of training runs, whose best model is taken.
        output: Folder of the new model.
    """
    from marssep.model import join_models

    joined = _combine(models, join_models, output)
    print(f"{output}: {len(joined.card['members'])} networks")


def mean(models: list[str], *, output: Annotated[Path, Parameter(name=["--output", "-o"])]) -> None:
    """Make one model of several of one shape by averaging their weights, such as those before and after more training.

    Args:
        models: Shipped models' names, folders of models, or folders of training runs, whose best model is taken.
        output: Folder of the new model.
    """
    from marssep.model import average_models

    _combine(models, average_models, output)
    print(f"{output}: the mean of {len(models)} models")


def soup(
    models: list[str],
    *,
    corpus: list[Path],
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    mixtures: int = 100,
) -> None:
    """Average the weights of as many of the models as make the mean better on validation, the best ones first.

    Args:
        models: Of one shape, trained on from one another: shipped models' names, folders of models, or folders of
            training runs, of which all models that were kept are tried (`validation.keep`).
        corpus: Corpus folder with the validation recordings (repeatable).
        output: Folder of the new model.
        mixtures: Of each of the two validation lists.
    """
    from marssep.evaluate.soup import SoupSettings, greedy_soup, ingredients, validation_score
    from marssep.model import save_model

    found = ingredients(models)
    first = next(iter(found.values()))
    recordings, _, bank = _material(corpus, first)
    score = validation_score(first, recordings, bank, SoupSettings(mixtures=mixtures))
    made = greedy_soup(found, score, report=lambda line: print(line, flush=True))
    save_model(output, made.model.network, made.model.config, card=made.model.card)
    print(f"{output}: the mean of {len(made.taken)} models, {made.figure:.3f} dB")


def _combine(
    names: Sequence[str], way: "Callable[[Mapping[str, LoadedModel]], LoadedModel]", output: Path
) -> "LoadedModel":
    """Write the one model that a way makes of several, each loaded with what is known of the run that made it."""
    from marssep.evaluate.release import of_run
    from marssep.model import load_model, save_model

    made = way({name: of_run(Path(name)) if Path(name, "best").is_dir() else load_model(name) for name in names})
    save_model(output, made.network, made.config, card=made.card)
    return made


def release(run: Path, *, corpus: list[Path], output: Path) -> None:
    """Choose on validation what training leaves open (weights, sharpness, presence threshold); write model and card.

    Args:
        run: Folder of a training run, or of a model that `join` or `mean` made.
        corpus: Corpus folder it was trained on (repeatable).
        output: Folder of the released model.
    """
    from marssep.evaluate.release import ReleaseSettings, first_model
    from marssep.evaluate.release import release as release_model

    recordings, encoder, bank = _material(corpus, first_model(run))
    decided = release_model(run, output, corpus=recordings, encoder=encoder, bank=bank, settings=ReleaseSettings())
    for weights, gain in decided.weights_tried.items():
        print(f"weights '{weights}': SI-SDRi by text {gain:.2f} dB" + (" (chosen)" * (weights == decided.weights)))
    for scale, gain in decided.tried.items():
        print(f"logits x {scale}: SI-SDRi by text {gain:.2f} dB" + (" (chosen)" * (float(scale) == decided.scale)))
    _tell(decided.presence)
    print(f"{output}: written")


def gate(model: Path, *, corpus: list[Path]) -> None:
    """Fit the presence of a released model again on validation, weights of the evidence and thresholds.

    Args:
        model: Folder of the model; its config and card are written anew, its network stays as it is.
        corpus: Corpus folder with the validation recordings (repeatable).
    """
    from marssep.corpus.store import Corpus
    from marssep.evaluate.release import ReleaseSettings, fit_gate

    _tell(fit_gate(model, corpus=Corpus.open(corpus), settings=ReleaseSettings()))


def _tell(presence: "PresenceChoice") -> None:
    low = presence.quiet_threshold
    quiet = "" if low is None else f" ({low:.3f} for quiet targets)"
    print(
        f"presence threshold {presence.threshold:.3f}{quiet}: rejects {presence.rejected:.1%} of absent queries, "
        f"keeps {presence.kept:.1%} of the improvement; ROC area {presence.area:.3f}"
    )


def _material(corpus: Sequence[Path], model: "LoadedModel") -> "tuple[Corpus, QueryEncoder, EmbeddingBank]":
    """What a model is validated on: recordings, its query encoder, and their embeddings."""
    from marssep.corpus.store import Corpus
    from marssep.query.bank import EmbeddingBank
    from marssep.query.encoder import load_encoder

    recordings, encoder = Corpus.open(corpus), load_encoder(model.config.encoder)
    return recordings, encoder, EmbeddingBank.build(recordings, encoder, corpus[0].parent / ".features")


def card(model: Path, *, results: list[Path]) -> None:
    """Write a released model's README.md from its card and its results.

    Args:
        model: Folder of a released model.
        results: Files that `marssep evaluate` wrote for this model (repeatable).
    """
    from marssep.evaluate.card import write_card

    write_card(model, results)
    print(model / "README.md")
