"""`marssep train reinforce`: move a separator towards what a reward prefers."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from marssep.corpus.store import Corpus
    from marssep.train.reinforce import RewardParts
    from marssep.train.reinforce_settings import ReinforceSettings


@Parameter(name="*")
@dataclass(frozen=True)
class ReinforceOptions:
    """Who helps, and how the run behaves.

    Attributes:
        student: Folder of a student made by `marssep train distil`; default: the package's.
        judge: Let the independent judge watch (`marssep models fetch judge`).
        threads: CPU threads of the network.
        quiet: Show no progress bar.
    """

    student: Path | None = None
    judge: bool = True
    threads: int | None = None
    quiet: bool = False


def reinforce(
    *,
    corpus: Annotated[list[Path], Parameter(consume_multiple=True)],
    output: Path,
    preset: str = "reinforce",
    overrides: Annotated[list[str] | None, Parameter(name="--set")] = None,
    resume: bool = False,
    options: ReinforceOptions | None = None,
) -> int:
    """Reinforce a separator; the reward is the aligned encoder's, heard by its student.

    Several processes: `accelerate launch --multi_gpu --num_processes 8 -m marssep train reinforce ...`.
    Exit code 1 if the guard stopped the run.

    Args:
        corpus: Folders with a manifest.
        output: Folder of the run: settings, journal, checkpoints, models.
        preset: A shipped preset or a TOML file, of the program 'reinforce'.
        overrides: Change one value of the preset, as `concentration.value=30` (repeatable).
        resume: Go on from the last checkpoint in the output folder.
        options: Who helps, and how the run behaves.
    """
    from marssep.errors import SettingsError
    from marssep.presets import load_preset
    from marssep.train.reinforce_settings import ReinforceSettings

    settings, chosen = load_preset(preset, overrides or ()), options or ReinforceOptions()
    if not isinstance(settings, ReinforceSettings):
        raise SettingsError(f"preset '{preset}' is of another program; 'reinforce' is one of this.")

    import torch

    from marssep.corpus.store import Corpus
    from marssep.query.bank import EmbeddingBank
    from marssep.query.encoder import load_encoder
    from marssep.train.reinforce import train_reinforce
    from marssep.train.world import first_process_first, leave_together

    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    recordings = Corpus.open(corpus, streaming=settings.streaming.shards > 0)
    with first_process_first():  # what is decoded and embedded once is made by one process
        recordings.decode_all()
        bank = EmbeddingBank.build(recordings, load_encoder(settings.model.encoder), corpus[0].parent / ".features")
    parts = _reward_parts(settings, recordings, chosen)
    progress = train_reinforce(
        settings,
        corpus=recordings,
        bank=bank,
        output=output,
        parts=parts,
        resume=resume,
        quiet=chosen.quiet,
    )
    kept = "last" if progress.best is None else "best"
    said = f"{output / kept}: {progress.step} rollouts in {progress.seconds / 60:.1f} minutes"
    if progress.stopped:
        said += f"\nstopped by the guard: {progress.stopped}"
    return leave_together(said, code=1 if progress.stopped else 0)


def _reward_parts(settings: "ReinforceSettings", recordings: "Corpus", options: ReinforceOptions) -> "RewardParts":
    from marssep.evaluate.judging import load_listener
    from marssep.reward.encoder import SHIPPED
    from marssep.reward.student import GridStudent
    from marssep.train.recognition import fit_recogniser
    from marssep.train.reinforce import RewardParts

    asked = set(settings.reward.weights if settings.objective != "supervised" else ())
    similar = asked & {"cosine", "margin", "text"}
    return RewardParts(
        student=GridStudent.load(options.student or SHIPPED / "student") if similar else None,
        recogniser=fit_recogniser(recordings, settings.model.spectral) if "recogniser" in asked else None,
        judge=load_listener() if options.judge else None,
    )
