"""One whole run of stages 2 and 3: corpus and separator in, reward encoder and its log out."""

import datetime
import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from marssep.corpus.lists import read_list
from marssep.corpus.mixing import MixingSettings, MixtureSampler, MixtureSpec
from marssep.corpus.store import MANIFEST, Corpus
from marssep.errors import OutputError
from marssep.model import LoadedModel, load_model
from marssep.query import QueryEncoder, TrunkFeatures, load_encoder
from marssep.reward.encoder import RewardEncoder
from marssep.train.align import alignment_data
from marssep.train.progressive import ProgressiveData, StageResult, train_stage
from marssep.train.progressive_cache import separations
from marssep.train.progressive_data import stack
from marssep.train.progressive_material import REPORT_COUNTS, TRAIN_COUNTS
from marssep.train.progressive_settings import ProgressiveSettings

VALIDATION_LISTS = ("open-val", "esc10-val")
_DURATION = 4.08  # seconds: as the separator is trained
CACHE = ".separations"

Stage = Literal["2", "3", "all"]


@dataclass(frozen=True)
class ProgressiveRun:
    """What a run made.

    Attributes:
        folders: of the encoder after each stage, by stage.
        results: of each stage that was trained.
    """

    folders: dict[int, Path]
    results: tuple[StageResult, ...]


def run_progressive(
    folders: Sequence[Path],
    output: Path,
    *,
    stage: Stage = "all",
    settings: Mapping[str, Any] | None = None,
    model: str = "small",
    report: Callable[[str], None] = lambda line: None,
) -> ProgressiveRun:
    """Train stage 2, stage 3 or both, each from the best checkpoint of the one before.

    Args:
        folders: corpus folders; caches lie beside the first.
        output: folder for `stage2` and `stage3`; stage 3 alone starts from its `stage2`.
        stage: which.
        settings: of `ProgressiveSettings`.
        model: separator whose outputs are among the hard negatives.
        report: called with lines for the person who waits.

    Raises:
        SettingsError, CorpusError, ModelError: as said there.
        OutputError: the output cannot be written.
    """
    parsed = ProgressiveSettings.parse(settings or {}, source="settings of the progressive alignment")
    corpus, separator = Corpus.open(folders), load_model(model)
    encoder = load_encoder(separator.config.encoder)
    data = progressive_data(corpus, (separator, encoder), folders[0].parent, settings=parsed, report=report)
    wanted = (2, 3) if stage == "all" else (int(stage),)
    before = output / "stage2"
    made = RewardEncoder.load(before, encoder=encoder) if wanted[0] == 3 else RewardEncoder(encoder, parsed.encoder)
    results, places = [], {}
    for number in wanted:
        result = train_stage(made, data, parsed, stage=number, progress=lambda row: report(_line(row)))
        places[number] = output / f"stage{number}"
        try:
            made.save(places[number], _card(result, corpus, separator, settings=parsed))
        except OSError as error:
            raise OutputError(f"{output}: cannot be written ({error.strerror}); choose another --output.") from None
        results.append(result)
    return ProgressiveRun(places, tuple(results))


def progressive_data(
    corpus: Corpus,
    makers: tuple[LoadedModel, QueryEncoder],
    cache: Path,
    *,
    settings: ProgressiveSettings,
    report: Callable[[str], None],
) -> ProgressiveData:
    """Trunk features and separations, computed once and kept in `cache`."""

    def tell(name: str) -> Callable[[int, int], None]:
        return lambda done, total: report(f"{name} {done}/{total}") if done % 50 == 0 or done == total else None

    features = TrunkFeatures.build(corpus, makers[1], cache / ".features", progress=tell("features"))
    aligned = alignment_data(corpus.items, features)
    folder, labels = cache / CACHE, aligned.labels
    specs = training_mixtures(corpus, settings)
    training = separations(specs, corpus, makers, folder, counts=TRAIN_COUNTS, progress=tell("training mixtures"))
    validation = {}
    for name in VALIDATION_LISTS:
        chosen = [spec for spec in read_list(name) if all(source.item in corpus.by_id for source in spec.sources)]
        chosen = chosen[: settings.validation_mixtures]
        if chosen:  # a corpus without ESC-10 has none of the second list
            made = separations(chosen, corpus, makers, folder, counts=REPORT_COUNTS, progress=tell(name))
            validation[name] = stack(made, labels, settings.encoder)
    return ProgressiveData(aligned, stack(training, labels, settings.encoder), validation)


def training_mixtures(corpus: Corpus, settings: ProgressiveSettings) -> list[MixtureSpec]:
    """Mixtures of two, every fourth of three sources of the split `train`."""
    sampler = MixtureSampler(
        corpus,
        split="train",
        settings=MixingSettings(speed=settings.speed),
        duration=_DURATION,
        seed=settings.mixture_seed,
    )
    return [sampler.draw(index, n_sources=2 if index % 4 else 3) for index in range(settings.training_mixtures)]


def _line(row: Mapping[str, float]) -> str:
    shown = ("score", "gap", "ladder", "disturbed", "explored", "audio_text", "image_text", "audio_image")
    return f"step {row['step']:.0f}: " + ", ".join(f"{name} {row[name]:.3f}" for name in shown)


def _card(
    result: StageResult, corpus: Corpus, separator: LoadedModel, *, settings: ProgressiveSettings
) -> dict[str, Any]:
    digests = {folder.name: hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest() for folder in corpus.folders}
    return {
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "settings": settings.model_dump(),
        "validation_score": round(result.score, 4),
        "step": result.step,
        "seconds": round(result.seconds, 1),
        "separator": separator.sha256,
        "manifests": digests,
        "log": [{name: round(value, 4) for name, value in row.items()} for row in result.log],
    }
