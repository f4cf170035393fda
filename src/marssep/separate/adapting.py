"""Adapting masks to a recording that lies in memory as a whole; `separate.streaming` does long ones block by block."""

from jaxtyping import Complex, Float
from torch import Tensor

from marssep.spectral import Spectrogram
from marssep.spectral.adaptation import Adaptation


def learn_whole(
    spectrum: Complex[Tensor, "c f t"],
    masks: Float[Tensor, "q bands steps"],
    sample_rate: int,
    spectral: Spectrogram,
    *,
    directions: bool,
) -> Adaptation:
    """What a recording says under masks on the grid; to be closed.

    Args:
        spectrum: of the recording, all frames.
        masks: of every sound.
        sample_rate: Hz.
        spectral: the spectrogram's.
        directions: as of `Adaptation`.
    """
    made = Adaptation(spectral.settings, directions=directions)
    seen = spectrum[..., :: spectral.settings.frames_per_step]
    made.push(seen.numpy(), spectral.on_bins(masks, sample_rate).numpy())
    made.finish()
    return made
