"""Teach the grid student of the reward encoder: place every separation where the aligned encoder places it."""

import datetime
import hashlib
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from marssep.corpus.labels import class_of
from marssep.corpus.lists import read_list
from marssep.corpus.mixing import MixtureSpec
from marssep.corpus.store import MANIFEST, Corpus
from marssep.model import load_model
from marssep.query import load_encoder
from marssep.reward.encoder import SHIPPED, RewardEncoder
from marssep.reward.student import GridStudent, StudentSettings
from marssep.settings import Settings
from marssep.train.progressive_cache import separations
from marssep.train.progressive_figures import spearman
from marssep.train.progressive_material import REPORT_COUNTS, TRAIN_COUNTS, Counts, Separations
from marssep.train.progressive_run import CACHE, VALIDATION_LISTS, training_mixtures
from marssep.train.progressive_settings import ProgressiveSettings


class DistilSettings(Settings):
    """How the student is taught."""

    student: StudentSettings = StudentSettings()
    """Shape."""
    training_mixtures: int = Field(default=1400, ge=2)
    """Mixtures rendered from the split `train`, 17 separations each; the first 700 are those of the alignment."""
    validation_mixtures: int = Field(default=60, ge=1)
    """Of each validation list."""
    steps: int = Field(default=1200, ge=1)
    """Updates."""
    mixtures: int = Field(default=20, ge=1)
    """Mixtures with all their separations per step."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak of AdamW; warmed up over 50 steps, cosine to zero."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Of AdamW."""
    reward: float = Field(default=2.0, ge=0)
    """Weight of the squared error of the similarities that the rewards are made of."""
    seed: int = 0
    """Of weights and batches."""


@dataclass(frozen=True)
class Lesson:
    """Separations as the student sees them and where the teacher puts them; k per mixture.

    Attributes:
        grids: relative power to the quarter.
        places: the teacher's first part.
        names: of the targets, by the query encoder.
        si_sdr: dB.
        kinds: k names.
        labels: m labels of the targets.
    """

    grids: Float[Tensor, "m k bands segments"]
    places: Float[Tensor, "m k d"]
    names: Float[Tensor, "m d"]
    si_sdr: Float[Tensor, "m k"]
    kinds: tuple[str, ...]
    labels: tuple[str, ...]


def distil(
    folders: Sequence[Path],
    output: Path,
    *,
    settings: DistilSettings,
    teacher: Path = SHIPPED / "stage3",
    model: str = "small",
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
    """Train a student and write it to `output`; returns how faithful it is on the validation lists.

    Args:
        folders: corpus folders; the cache of separations lies beside the first.
        output: folder of the student.
        settings: see there.
        teacher: folder of the aligned reward encoder.
        model: separator whose outputs are among the separations.
        report: called with lines for the person who waits.

    Raises:
        SettingsError: if the separator's rows are other frequencies than those of the reward encoder's second part.
    """
    corpus, separator = Corpus.open(folders), load_model(model)
    encoder = load_encoder(separator.config.encoder)
    aligned = RewardEncoder.load(teacher, encoder=encoder)
    student = GridStudent(aligned, settings.student)
    student.check_grid(separator.config.spectral)
    lists = _lists(corpus, settings)
    lessons = {}
    for name, (specs, counts) in lists.items():

        def tell(done: int, total: int, name: str = name) -> None:
            if done % 100 == 0 or done == total:
                report(f"{name}: {done} of {total} mixtures")

        made = separations(specs, corpus, (separator, encoder), folders[0].parent / CACHE, counts=counts, progress=tell)
        lessons[name] = _lesson(made, aligned)
    started = time.time()
    student = teach(student, lessons["train"], settings, report=report)
    figures: dict[str, float] = {}
    for name in lessons.keys() - {"train"}:
        figures |= {f"{name}/{key}": value for key, value in fidelity(student, lessons[name]).items()}
    student.save(
        output,
        {
            "date": datetime.date.today().isoformat(),
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "settings": settings.model_dump(mode="json"),
            "seconds": round(time.time() - started, 1),
            "teacher": aligned.fingerprint,
            "separator": separator.sha256,
            "manifests": {f.name: hashlib.sha256((f / MANIFEST).read_bytes()).hexdigest() for f in corpus.folders},
            "validation": {name: round(value, 4) for name, value in sorted(figures.items())},
        },
    )
    return figures


def _lists(corpus: Corpus, settings: DistilSettings) -> dict[str, tuple[list[MixtureSpec], Counts]]:
    """Mixtures, and how many separations of each kind, for training and for every validation list that can be made."""
    progressive = ProgressiveSettings(training_mixtures=settings.training_mixtures)
    lists = {"train": (training_mixtures(corpus, progressive), TRAIN_COUNTS)}
    for name in VALIDATION_LISTS:
        specs = [spec for spec in read_list(name) if all(source.item in corpus.by_id for source in spec.sources)]
        if specs:
            lists[name] = (specs[: settings.validation_mixtures], REPORT_COUNTS)
    return lists


def teach(
    student: GridStudent, lesson: Lesson, settings: DistilSettings, *, report: Callable[[str], None]
) -> GridStudent:
    """Train the first part of a student in place; the second is the teacher's own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        for module in (*student.layers, *student.what):
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        student.requires_grad_(False)
        parameters = [*student.layers.parameters(), *student.what.parameters()]
        for parameter in parameters:
            parameter.requires_grad_(True)
        optimiser = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
        for step in range(settings.steps):
            rate = min(1.0, (step + 1) / 50) * 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * rate
            student.train()
            loss = _loss(student, lesson, torch.randint(len(lesson.grids), (settings.mixtures,)), settings)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            if (step + 1) % 100 == 0:
                report(f"step {step + 1}: loss {float(loss.detach()):.4f}")
    return student.requires_grad_(False).eval()


@torch.no_grad()
def fidelity(student: GridStudent, lesson: Lesson) -> dict[str, float]:
    """How well the student stands in for the teacher.

    Returns:
        place: mean cosine of the first parts; text, cosine: mean rank correlation, within a mixture, of the student's
        reward with the teacher's over all separations, for the name and for the mean anchor; explored_*: that with
        SI-SDR over exploration samples, of teacher and student.
    """
    places = _places(student, lesson.grids)
    names = F.normalize(lesson.names, dim=-1)
    texts = [torch.einsum("mkd,md->mk", own, names).numpy() for own in (lesson.places, places)]
    rewards = []
    for own in (lesson.places, places):
        whole = _full(student, lesson.grids, own)
        anchors = F.normalize(whole[:, 0] + student.place_name(names), dim=-1)
        rewards.append(torch.einsum("mkd,md->mk", whole, anchors).numpy())
    explored = [index for index, kind in enumerate(lesson.kinds) if kind == "explored"]
    quality = lesson.si_sdr[:, explored].numpy()
    return {
        "place": float((places * lesson.places).sum(-1).mean()),
        "text": float(np.nanmean(spearman(*texts))),
        "cosine": float(np.nanmean(spearman(*rewards))),
        "explored_teacher": float(np.nanmean(spearman(rewards[0][:, explored], quality))),
        "explored_student": float(np.nanmean(spearman(rewards[1][:, explored], quality))),
    }


def _loss(student: GridStudent, lesson: Lesson, rows: Tensor, settings: DistilSettings) -> Tensor:
    grids = lesson.grids[rows]
    # what a sound is does not depend on when it comes
    grids = grids.roll(int(torch.randint(grids.shape[-1], ())), dims=-1)
    places, wanted = _places(student, grids), lesson.places[rows]
    names = F.normalize(lesson.names[rows], dim=-1)[:, None]
    anchors = F.normalize(wanted[:, :1] + names, dim=-1)
    error = torch.stack([((places - wanted) * anchor).sum(-1) for anchor in (names, anchors)])
    return (1.0 - (places * wanted).sum(-1)).mean() + settings.reward * error.square().mean()


def _places(student: GridStudent, grids: Float[Tensor, "m k bands segments"]) -> Float[Tensor, "m k d"]:
    flat = torch.cat([student.place(part.pow(4)) for part in grids.flatten(0, 1).split(512)])
    return flat.unflatten(0, grids.shape[:2])


def _full(student: GridStudent, grids: Tensor, places: Tensor) -> Float[Tensor, "m k e"]:
    """Whole embeddings of separations whose first part is known."""
    whole = torch.stack([student(each.pow(4)) for each in grids])
    whole[..., : places.shape[-1]] = places * (1.0 - student.share).sqrt()
    return whole


def _lesson(made: Sequence[Separations], teacher: RewardEncoder) -> Lesson:
    with torch.no_grad():
        places = torch.stack([teacher.heads["audio"](each.features) for each in made])
        known = {each.label: class_of(each.label).text for each in made}
        names = teacher.encoder.embed_text(list(known.values()))
    by_label = dict(zip(known, names, strict=True))
    return Lesson(
        torch.stack([each.grids for each in made]),
        places,
        torch.stack([by_label[each.label] for each in made]),
        torch.stack([each.si_sdr for each in made]).clamp(-20.0, 30.0),
        made[0].kinds,
        tuple(each.label for each in made),
    )
