"""`marssep demo`: separate the included recording and say how well it went."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

EXAMPLES = Path(__file__).parent.parent / "examples"


def demo(
    *, output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("demo-output"), model: str = "default"
) -> None:
    """Separate the included recording by a text query and compare the result with the known truth.

    Args:
        output: Folder for the results; made if missing.
        model: A shipped model's name or a model folder.
    """
    from marssep.audio import read_audio
    from marssep.corpus.example import CREDITS, MIXTURE, TARGET
    from marssep.separate import Separator

    text = _question()
    truth = read_audio(EXAMPLES / TARGET)
    result = Separator.load(model).separate(EXAMPLES / MIXTURE, text=text)
    files = result.save(output, picture=True)
    before, after = (_si_sdr(estimate, truth.waveform) for estimate in (result.mixture, result.target))
    print(f"asked for    '{text}' in {EXAMPLES / MIXTURE}")
    print(f"target       {files.target}")
    print(f"residual     {files.residual}")
    print(f"picture      {files.picture}")
    print(f"presence     {result.presence:.2f}")
    print(f"SI-SDR       {before:.1f} dB before, {after:.1f} dB after: improvement {after - before:+.1f} dB")
    print(f"credits      {EXAMPLES / CREDITS}")


def _question() -> str:
    from marssep.corpus.example import SPEC
    from marssep.corpus.lists import read_list

    return read_list(EXAMPLES / SPEC)[0].queries[0].text


def _si_sdr(estimate: object, reference: object) -> float:
    import torch

    from marssep.metrics import si_sdr_db

    return float(si_sdr_db(torch.as_tensor(estimate), torch.as_tensor(reference)).mean())
