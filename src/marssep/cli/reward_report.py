"""`marssep reward-report`: how far the reward encoder can be trusted, stage by stage."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def reward_report(
    *,
    corpus: Annotated[list[Path], Parameter(consume_multiple=True)],
    reward: Path | None = None,
    model: str = "small",
    mixtures: int = 150,
    anchor: str = "audio",
    output: Path = Path("results/reward.json"),
) -> None:
    """Compare rewards with SI-SDR on test mixtures, and print the tables.

    Parameters
    ----------
    corpus
        Folders with a manifest.jsonl.
    reward
        Folder with the reward encoders stage2 and stage3; default: those of the package.
    model
        Separator around whose masks the policy explores.
    mixtures
        How many of the list open-test.
    anchor
        For the comparison of stages and rewards: text, audio, mean, learnable, max or mlbp.
    output
        Where the figures go.
    """
    import json

    from marssep.errors import UsageError
    from marssep.evaluate.results import write_text
    from marssep.reward.anchors import ANCHORS
    from marssep.reward.encoder import SHIPPED
    from marssep.train.progressive_report import markdown
    from marssep.train.progressive_report_run import run_report

    if anchor not in ANCHORS:
        raise UsageError(f"--anchor {anchor}: there is none of this name; known: {', '.join(ANCHORS)}.")
    report = run_report(corpus, reward or SHIPPED, model=model, mixtures=mixtures, anchor=anchor, report=_progress)
    write_text(output, json.dumps(report, indent=1) + "\n")
    print(markdown(report))


def _progress(line: str) -> None:
    import sys

    print(line, file=sys.stderr)
