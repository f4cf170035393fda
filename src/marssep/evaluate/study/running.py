"""Run the rows of the study: train, choose the logit scale on validation, score on test; resumable row by row."""

import datetime
import hashlib
import json
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from marssep import __version__
from marssep.corpus.store import MANIFEST, Corpus
from marssep.errors import UsageError
from marssep.evaluate.results import write_text
from marssep.evaluate.study.bench import Bench, Ears, Refine
from marssep.evaluate.study.pool import BatchPool, fill_pool
from marssep.evaluate.study.variants import Variant
from marssep.model import MaskNetwork, load_model
from marssep.query.bank import EmbeddingBank
from marssep.reward.grid import GridRewards, GridRewardSettings
from marssep.reward.student import GridStudent
from marssep.separate.refining import refine, refine_directly
from marssep.settings import Settings
from marssep.train.batches import TrainingBatches
from marssep.train.reinforce import ReinforceRun, RewardParts
from marssep.train.reinforce_settings import ReinforceSettings

POOL = 240
"""Training batches of 8 mixtures: what the longest row needs."""


@dataclass(frozen=True)
class StudyPlan:
    """What is run.

    Attributes:
        variants: rows.
        seeds: of the order of mixtures and of the masks that are tried.
        test: committed list that is reported.
        mixtures: of that list.
        validation: lists that choose the logit scale.
        validation_mixtures: of each.
        load: makes settings of `KEY=VALUE` changes to a preset.
        preset: its name and what was changed in it for all rows, for the record.
        pool: training batches.
    """

    variants: Sequence[Variant]
    load: Callable[[Sequence[str]], Settings]
    seeds: Sequence[int] = (0, 1, 2)
    test: str = "open-test"
    mixtures: int = 300
    validation: Sequence[str] = ("open-val", "esc10-val")
    validation_mixtures: int = 60
    preset: str = "reinforce"
    pool: int = POOL


@dataclass(frozen=True)
class StudyParts:
    """What the rows share.

    Attributes:
        corpus: recordings of all splits.
        bank: their embeddings.
        student: whose similarity is rewarded.
        ears: who listens to the results.
    """

    corpus: Corpus
    bank: EmbeddingBank
    student: GridStudent
    ears: Ears


def run_study(
    plan: StudyPlan, parts: StudyParts, output: Path, *, report: Callable[[str], None] = lambda line: None
) -> list[Path]:
    """Run what is not there yet; returns the file of every row and seed.

    Args:
        plan: rows and seeds.
        parts: what they share.
        output: folder with `pool/`, `rows/` and, while a row trains, its run.
        report: called with a line for every row.

    Raises:
        UsageError: if a row that is there was made with other settings, models or data.
    """
    base = _settings(plan, ())
    spectrogram = load_model(base.start or "small").spectral
    if any(variant.trains for variant in plan.variants):
        fill_pool(output / "pool", TrainingBatches(parts.corpus, parts.bank, base), plan.pool)
    facts = _facts(plan, base, parts)
    benches: dict[str, Bench] = {}

    def bench(name: str, limit: int, kinds: Sequence[str]) -> Bench:
        key = f"{name} {limit} {kinds}"
        if key not in benches:
            benches[key] = Bench(name, parts.corpus, parts.bank, spectrogram=spectrogram, limit=limit, kinds=kinds)
        return benches[key]

    files = []
    for seed in plan.seeds:
        for variant in plan.variants:
            if not _by_chance(variant) and seed != plan.seeds[0]:
                continue  # nothing in it is random
            path = output / "rows" / f"{_slug(variant.name)}-{seed}.json"
            files.append(path)
            recipe = _recipe(variant, facts)
            if not _is_done(path, recipe):
                network, training = _train(plan, variant, seed, parts, output)
                means: dict[float, float] = {}
                if variant.scale is None:
                    validation = [bench(name, plan.validation_mixtures, ("text",)) for name in plan.validation]
                    scores = [each.scale_scores(network) for each in validation]
                    means = {scale: sum(row[scale] for row in scores) / len(scores) for scale in scores[0]}
                scale = variant.scale if variant.scale is not None else max(means, key=lambda each: means[each])
                test = bench(plan.test, plan.mixtures, ("text", "audio", "image", "composed"))
                climb = _refinement(variant, seed, parts)
                rows = test.score(network, scale=scale, ears=parts.ears, refine=climb)
                found = {
                    "variant": variant.name,
                    "seed": seed,
                    "scale": scale,
                    "validation": {str(key): round(value, 4) for key, value in means.items()},
                    "training": training,
                    "facts": facts,
                    "recipe": recipe,
                    "queries": [_rounded(row) for row in rows],
                }
                write_text(path, json.dumps(found))
                report(f"{variant.name}, seed {seed}: {_line(found)}")
    return files


def _recipe(variant: Variant, facts: Mapping[str, Any]) -> str:
    """A checksum of all that decides a row but its seed."""
    about = {key: value for key, value in facts.items() if key not in ("date", "versions")}
    about |= {"changes": variant.changes, "scale": variant.scale}
    about["refined"] = variant.refined and variant.refined.described()
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _is_done(path: Path, recipe: str) -> bool:
    if not path.exists():
        return False
    if json.loads(path.read_text(encoding="utf-8")).get("recipe") != recipe:
        raise UsageError(
            f"{path}: this row was made with other settings, models or data; remove it, or choose another --output."
        )
    return True


def _by_chance(variant: Variant) -> bool:
    return variant.trains or (variant.refined is not None and variant.refined.by == "search")


def _refinement(variant: Variant, seed: int, parts: StudyParts) -> Refine | None:
    if variant.refined is None:
        return None
    search = variant.refined.by == "search"
    rewards = GridRewards(
        GridRewardSettings(weights={"recogniser" if search else "text": 1.0}),
        student=parts.student,
        recogniser=parts.ears.recogniser,
    )
    climb, settings = refine if search else refine_directly, variant.refined.settings.model_copy(update={"seed": seed})
    return lambda logits, truth: climb(logits, lambda masks: rewards(masks, truth).total, settings, power=truth.power)


def _train(
    plan: StudyPlan, variant: Variant, seed: int, parts: StudyParts, output: Path
) -> tuple[MaskNetwork, dict[str, Any]]:
    settings = _settings(plan, (*variant.changes, f"seed={seed}"))
    if not variant.trains:
        return load_model(settings.start or "small").network.eval(), {}
    folder = output / "runs" / f"{_slug(variant.name)}-{seed}"
    record = folder / "training.json"
    if record.is_file():  # trained before, and not scored yet
        return load_model(folder / "last").network.eval(), json.loads(record.read_text(encoding="utf-8"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run = ReinforceRun(
        settings,
        parts.corpus,
        parts.bank,
        folder,
        RewardParts(student=parts.student, recogniser=parts.ears.recogniser),
    )
    run.batches = BatchPool(output / "pool", size=plan.pool, seed=seed)
    started, wall = time.process_time(), time.monotonic()
    progress = run.go(resume=False, quiet=True)
    updates = settings.steps * settings.inner_epochs * settings.minibatches
    journal = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    training = {
        "cpu_seconds": round(time.process_time() - started, 1),
        "wall_seconds": round(time.monotonic() - wall, 1),
        "updates": updates,
        "steps": progress.step,
        "stopped": progress.stopped,
        "first": journal[0] if journal else {},
        "last": journal[-1] if journal else {},
    }
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    write_text(record, json.dumps(training))
    return load_model(folder / "last").network.eval(), training


def _settings(plan: StudyPlan, changes: Sequence[str]) -> ReinforceSettings:
    # Rows are judged by the study itself, so nothing is validated while they train; batches come from the pool.
    fixed = ("validation.lists=[]", "workers=0", "checkpoint_every_steps=1000000")
    settings = plan.load((*changes, *fixed))
    assert isinstance(settings, ReinforceSettings)
    return settings


def _facts(plan: StudyPlan, base: ReinforceSettings, parts: StudyParts) -> dict[str, Any]:
    return {
        "date": datetime.date.today().isoformat(),
        "versions": {"marssep": __version__, "python": platform.python_version(), "torch": torch.__version__},
        "start": load_model(base.start or "small").sha256,
        "student": parts.student.card,
        "encoder": parts.ears.encoder.fingerprint,
        "manifests": {
            folder.name: hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest() for folder in parts.corpus.folders
        },
        "test": plan.test,
        "mixtures": plan.mixtures,
        "validation": list(plan.validation),
        "validation_mixtures": plan.validation_mixtures,
        "preset": plan.preset,
    }


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}


def _line(found: dict[str, Any]) -> str:
    def mean(key: str, kind: str) -> float:
        values = [row[key] for row in found["queries"] if key in row and row["kind"] == kind]
        return sum(values) / max(1, len(values))

    shown = ("text_similarity", "judge", "recogniser", "recognised")
    parts = [f"{key} {mean(key, 'text'):.3f}" for key in shown]
    gains = [f"{kind} {mean('si_sdri', kind):.2f}" for kind in ("text", "audio", "image", "composed")]
    spent = found["training"].get("cpu_seconds", 0)
    return f"x{found['scale']}, SI-SDRi {', '.join(gains)} dB, {', '.join(parts)}, {spent} s"
