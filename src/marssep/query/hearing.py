"""What an encoder hears in a sound: all of it at once, and every patch of about a second."""

from dataclasses import dataclass

from jaxtyping import Float32
from torch import Tensor

PATCH_SECONDS, PATCH_HOP_SECONDS = 0.96, 0.48


@dataclass(frozen=True, slots=True)
class AudioParts:
    """A trunk's features of sounds and of their patches, or the unit-norm embeddings that a head makes of them.

    Attributes:
        whole: of each sound.
        patches: of each of its patches of about a second, half of which overlap.
        power: of each patch; comparable within one sound only.
    """

    whole: Float32[Tensor, "b d"]
    patches: Float32[Tensor, "b p d"]
    power: Float32[Tensor, "b p"]


def cut_windows(waveform: Float32[Tensor, "b n"], sample_rate: int) -> Float32[Tensor, "b p w"]:
    """Patches of waveforms; the last ends with them, and what is shorter than one is a patch as a whole.

    Args:
        waveform: of one sample or more.
        sample_rate: Hz.
    """
    size, hop = (max(1, round(seconds * sample_rate)) for seconds in (PATCH_SECONDS, PATCH_HOP_SECONDS))
    n = waveform.shape[-1]
    if n <= size:
        return waveform[:, None]
    starts = [*range(0, n - size, hop), n - size]
    return waveform.unfold(-1, size, 1)[:, starts]
