"""`marssep train distil`: teach the fast student of the reward encoder that the reinforcement asks."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def distil(
    *,
    corpus: Annotated[list[Path], Parameter(consume_multiple=True)],
    output: Path,
    teacher: Path | None = None,
    overrides: Annotated[list[str] | None, Parameter(name="--set")] = None,
) -> None:
    """Teach the grid student of the aligned reward encoder.

    Args:
        corpus: Folders with a manifest.jsonl; the cache of separations lies beside the first.
        output: Folder for student.safetensors and student.json.
        teacher: Folder of a reward encoder; default: the package's stage 3.
        overrides: Settings as key=value, for example --set steps=400 (repeatable).
    """
    from marssep.train.alone import refuse_company

    refuse_company("marssep train distil")
    from marssep.presets import parse_overrides
    from marssep.reward.encoder import SHIPPED
    from marssep.train.distil import DistilSettings
    from marssep.train.distil import distil as run

    settings = DistilSettings.parse(parse_overrides(overrides or ()), source="settings of the student")
    figures = run(corpus, output, settings=settings, teacher=teacher or SHIPPED / "stage3", report=print)
    for name, value in sorted(figures.items()):
        print(f"{name}: {value:.3f}")
