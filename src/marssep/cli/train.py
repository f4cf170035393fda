"""`marssep train`: the programs that train."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

app = App(name="train", help="Train a separator, the query encoder's heads or the reward encoder.")
app.command("marssep.cli.train_align:align")
app.command("marssep.cli.train_distil:distil")
app.command("marssep.cli.train_reinforce:reinforce")


@app.command
def supervised(
    *,
    corpus: list[Path],
    output: Path,
    preset: str = "default",
    overrides: Annotated[list[str] | None, Parameter(name="--set")] = None,
    embeddings: Path | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> None:
    """Train a mask network on mixtures whose sources are known.

    Several processes: `accelerate launch --multi_gpu --num_processes 8 -m marssep train supervised ...`.

    Args:
        corpus: Folder with a manifest (repeatable); see `marssep data build`.
        output: Folder of the run: settings, journal, checkpoints, models.
        preset: A shipped preset or a TOML file.
        overrides: Change one value of the preset, as `optimiser.learning_rate=1e-3` (repeatable).
        embeddings: What `marssep data embed` wrote for the corpus, for a machine without the encoder.
        resume: Go on from the last checkpoint in the output folder.
        quiet: Show no progress bar.
    """
    from marssep.errors import SettingsError
    from marssep.presets import load_preset
    from marssep.train.settings import SupervisedSettings

    settings = load_preset(preset, overrides or ())
    if type(settings) is not SupervisedSettings:
        raise SettingsError(f"preset '{preset}' is of another program; 'default' is one of this.")

    from marssep.corpus.store import Corpus
    from marssep.query.bank import EmbeddingBank
    from marssep.query.encoder import load_encoder
    from marssep.train.supervised import train_supervised
    from marssep.train.world import first_process_first, leave_together

    recordings = Corpus.open(corpus, streaming=settings.streaming.shards > 0)
    with first_process_first():  # what is decoded and embedded once is made by one process
        recordings.decode_all()
        if embeddings is not None:
            bank = EmbeddingBank.read(embeddings)
        else:
            cache = corpus[0].parent / ".features"
            bank = EmbeddingBank.build(recordings, load_encoder(settings.model.encoder), cache)
    progress = train_supervised(settings, corpus=recordings, bank=bank, output=output, resume=resume, quiet=quiet)
    kept, figure = ("last", "") if progress.best is None else ("best", f", SI-SDRi by text {progress.best:.2f} dB")
    leave_together(f"{output / kept}: {progress.step} steps in {progress.seconds / 60:.1f} minutes{figure}")
