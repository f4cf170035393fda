"""The judge as a function of waveforms, for programs below this room that may only be handed one."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from marssep.evaluate.judge import Judge, load_judge


def load_listener(judge: Judge | None = None) -> Callable[[Tensor, int], Tensor]:
    """A function (waveforms `[b, n]`, rate in Hz) to unit-norm embeddings `[b, d]`; zero for a silent one.

    Raises:
        ModelError: the judge's weights were not fetched.
    """
    ears = judge or load_judge()

    def listen(waveform: Float[Tensor, "b n"], sample_rate: int) -> Float[Tensor, "b d"]:
        return ears(waveform, sample_rate).nan_to_num(0.0)

    return listen
