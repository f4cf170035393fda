"""One whole run of the alignment: corpus in, heads and figures out."""

import datetime
import hashlib
import json
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from marssep.corpus.store import MANIFEST, Corpus
from marssep.errors import OutputError, UsageError
from marssep.query import MODALITIES, QueryEncoder, TrunkFeatures, load_heads, new_encoder, save_heads
from marssep.query.encoder import shipped_heads
from marssep.train.align import AlignmentData, AlignSettings, TrainedHeads, alignment_data, train_heads
from marssep.train.align_report import alignment_report


@dataclass(frozen=True)
class AlignmentRun:
    """Where the results are.

    Attributes:
        heads: safetensors file.
        results: JSON file with the figures.
        score: validation score of the heads that were kept, in [0, 1].
        step: at which they were reached.
    """

    heads: Path
    results: Path
    score: float
    step: int


def run_alignment(
    folders: Sequence[Path],
    output: Path,
    *,
    encoder_name: str = "open",
    settings: Mapping[str, Any] | None = None,
    cache: Path | None = None,
    heads: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> AlignmentRun:
    """Train the heads of an encoder on a corpus and write them with everything needed to judge them.

    Args:
        folders: corpus folders.
        output: folder for `heads.safetensors`, `heads.json` and the figures, `alignment-stage1.json`.
        encoder_name: as in `load_encoder`.
        settings: of `AlignSettings`.
        cache: folder for the trunk features; default: `.features` beside the first corpus folder.
        heads: with the setting `only = image`, the file whose other heads stay; default: those of the package.
        report: called with lines for the person who waits.

    Raises:
        SettingsError, CorpusError, ModelError, UsageError: as said there.
        OutputError: the output cannot be written.
    """
    parsed = AlignSettings.parse(settings or {}, source="align settings")
    corpus = Corpus.open(folders)
    encoder = new_encoder(encoder_name)
    _check_trainable(encoder)
    kept = _keep_heads(encoder, heads) if parsed.only == "image" else {}
    features = TrunkFeatures.build(
        corpus,
        encoder,
        cache or folders[0].parent / ".features",
        progress=lambda done, total: report(f"features {done}/{total}") if done % 500 == 0 else None,
    )
    words = encoder.vocabulary()
    data = alignment_data(corpus.items, features, encoder.text_features(words).cpu() if words else None)
    trained = train_heads(encoder, data, parsed, progress=lambda row: report(_line(row)))
    try:
        save_heads(encoder, output / "heads.safetensors")
        figures = alignment_report(encoder.heads, data)
        card = _card(encoder.fingerprint, corpus, data, settings=parsed, trained=trained)
        if kept:
            card = {**kept, "fingerprint": card.pop("fingerprint"), "picture_head": card}
        _write(output / "heads.json", card)
        results = output / "alignment-stage1.json"
        _write(results, {**_without_log(card), "retrieval": figures})
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror}); choose another --output.") from None
    return AlignmentRun(output / "heads.safetensors", results, trained.score, trained.step)


def _check_trainable(encoder: QueryEncoder) -> None:
    if any(name not in encoder.heads or not encoder.heads[name].state_dict() for name in MODALITIES):
        takes = ", ".join(encoder.modalities)
        raise UsageError(
            f"The encoder '{encoder.name}' ({takes}) has no heads for all of text, audio and image; give parts that "
            "together take all three, such as transformers:clap=FOLDER,clip=FOLDER."
        )


def _keep_heads(encoder: QueryEncoder, heads: Path | None) -> dict[str, Any]:
    """Load the heads that are not trained, and what was written down about them."""
    path = heads or shipped_heads(encoder.name)
    if path is None:
        raise UsageError(f"The encoder '{encoder.name}' comes without heads; give the file with the ones to keep.")
    load_heads(encoder, path, modalities=("text", "audio"))
    card = path.with_name("heads.json")
    known: dict[str, Any] = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    known.pop("picture_head", None)
    return {"fingerprint": "", **known, "words_and_sounds_from": encoder.fingerprint}


def _without_log(card: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_log(value) if isinstance(value, Mapping) else value for key, value in card.items() if key != "log"
    }


def _line(row: Mapping[str, float]) -> str:
    return f"step {row['step']:.0f}: loss {row['loss']:.3f}, validation {row['score']:.3f}"


def _card(
    fingerprint: str, corpus: Corpus, data: AlignmentData, *, settings: AlignSettings, trained: TrainedHeads
) -> dict[str, Any]:
    digests = {folder.name: hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest() for folder in corpus.folders}
    trained_on = [item for item in corpus.items if item.split == "train"]
    return {
        "fingerprint": fingerprint,
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "settings": settings.model_dump(),
        "validation_score": round(trained.score, 4),
        "step": trained.step,
        "temperature": round(trained.temperature, 4),
        "seconds": round(trained.seconds, 1),
        "manifests": digests,
        "labels": list(data.labels),
        "items": dict(sorted(Counter(f"{item.kind}/{item.split}/{item.group}" for item in corpus.items).items())),
        "licences": dict(sorted(Counter(item.licence for item in trained_on).items())),
        "log": list(trained.log),
    }


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)
