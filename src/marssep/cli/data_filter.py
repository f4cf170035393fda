"""`marssep data filter`: throw out what is silent, clipped, there twice, or not heard as what its label says."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def filter_(
    folder: Path,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    report: Path | None = None,
    encoder: str | None = None,
    rank: int = 5,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
) -> None:
    """Check the recordings of a corpus and copy those that pass.

    Args:
        folder: Corpus folder.
        output: Folder for what passes, with filter-report.json; nothing is copied if it is not given.
        report: File for the report alone.
        encoder: Encoder that must hear a recording's label among the nearest; nothing is asked if it is not given.
        rank: Labels (families) that count as near.
        set_: Settings as key=value: shortest (s), quietest_db, clipped (share), twice (true or false).
    """
    from marssep.corpus.filtering import FilterSettings, filter_corpus, judge, write_report
    from marssep.corpus.store import Corpus
    from marssep.errors import UsageError

    pairs = [text.partition("=") for text in set_ or []]
    if wrong := [key for key, sign, _ in pairs if not sign]:
        raise UsageError(f"--set {wrong[0]}: give it as key=value.")
    values = {key: value for key, _, value in pairs} | ({"rank": rank} if encoder else {})
    settings = FilterSettings.parse(values, source="filter settings")
    corpus = Corpus.open(folder)
    places = None
    if encoder is not None:
        from marssep.query import EmbeddingBank, load_encoder

        places = EmbeddingBank.build(corpus, load_encoder(encoder), folder / ".features")
    verdicts = judge(corpus, settings, places=places)
    counts = verdicts.summary()
    if report is not None:
        write_report(verdicts, report, settings=settings)
    if output is not None:
        filter_corpus(corpus, verdicts, output, settings=settings)
    kinds = ", ".join(f"{kind} {count}" for kind, count in counts["reasons"].items()) or "nothing"
    print(f"{folder}: {counts['thrown_out']} of {counts['checked']} recordings do not pass ({kinds})")
