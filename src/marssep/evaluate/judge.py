"""The judge: an encoder of another make, trained by others on other sounds, that says how alike two recordings are.

The query encoder guides the training (as loss, as reward and in the choice of models), so its own opinion of a result
is not evidence: a model can learn to please it. The judge is aiSFX (Ma and Lerch, ISMIR 2022), a plain convolutional
network trained to sort commercial sound effects libraries, with another front end, other data and other labels than
the query encoder's trunks. It lives in this room, which neither the rewards nor the training may import, so it cannot
become a reward by accident. Its weights (CC BY 4.0) come with `marssep models fetch judge`.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from marssep.errors import ModelError, UsageError
from marssep.metrics import is_silent
from marssep.query.trunks.audio import resample_waveform
from marssep.query.weights import weights_folder

SAMPLE_RATE = 44100
DIMENSION = 512
N_MELS = 96
_WINDOW, _HOP = 2048, 1024
_BLOCK, _BLOCK_HOP = 100, 50  # frames: 2.3 s with half overlap, as the network was trained and is used
_LARGEST = 9.457798957824707  # of the spectrograms it was trained on, which it was scaled by
_CHANNELS = (64, 64, 128, 128, 256, 256, 512, 512)
_BATCH = 4  # blocks at once: more only costs memory on a CPU


@dataclass(frozen=True, slots=True)
class JudgeScores:
    """What the judge says of estimates, each `[b]`; see `docs/metrics.md`.

    Attributes:
        estimate: cosine between estimate and reference.
        mixture: cosine between mixture and reference: what doing nothing scores.
        improvement: estimate - mixture.
    """

    estimate: Tensor
    mixture: Tensor
    improvement: Tensor


class Judge(nn.Module):
    """aiSFX's embedding network on its log-mel spectrogram; frozen and deterministic.

    The package's own librosa front end hands the network spectrograms with time and frequency exchanged, while the
    network was trained on those of essentia, which are `[frames, bands]`; here they are as in training.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (1, *_CHANNELS)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in zip(widths, _CHANNELS, strict=False)
        )
        self.register_buffer("mel", _mel_filters(), persistent=False)
        self.register_buffer("window", torch.hann_window(_WINDOW), persistent=False)
        self.mel: Tensor
        self.window: Tensor
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, waveform: Float[Tensor, "b n"], sample_rate: int) -> Float[Tensor, "b 512"]:
        """Unit-norm embeddings of waveforms of any rate and length; NaN for a silent one.

        Args:
            waveform: one channel each; the level plays no part.
            sample_rate: Hz.

        Raises:
            UsageError: no samples, or a rate below 1 Hz.
        """
        if waveform.shape[-1] == 0 or sample_rate < 1:
            raise UsageError(
                f"The judge needs samples at 1 Hz or more, not {list(waveform.shape)} at {sample_rate} Hz."
            )
        blocks = self.blocks(self.spectrogram(waveform.to(self.mel), sample_rate))
        flat = torch.cat([self._convolve(part) for part in blocks.flatten(0, 1).split(_BATCH)])
        embedding = F.normalize(flat.unflatten(0, blocks.shape[:2]).mean(1), dim=-1)
        return embedding.masked_fill(is_silent(waveform)[:, None].to(embedding.device), math.nan)

    def spectrogram(self, waveform: Float[Tensor, "b n"], sample_rate: int) -> Float[Tensor, "b t 96"]:
        """log10(1 + 10000 x mel power) of the waveform brought to a peak of 1 at 44.1 kHz."""
        waveform = resample_waveform(waveform, from_rate=sample_rate, to_rate=SAMPLE_RATE)
        peak = waveform.abs().amax(-1, keepdim=True)
        waveform = waveform / torch.where(peak > 0, peak, 1.0)
        waveform = F.pad(waveform, (_WINDOW // 2, _WINDOW // 2))
        spectrum = torch.fft.rfft(waveform.unfold(-1, _WINDOW, _HOP) * self.window)
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.log10(power @ self.mel * 10000.0 + 1.0)

    def blocks(self, spectrogram: Float[Tensor, "b t 96"]) -> Float[Tensor, "b k 100 96"]:
        """Blocks of 2.3 s every 1.2 s, scaled to the network's range; the last one ends with the recording.

        Recordings shorter than a block are extended with silence, as the original does.
        """
        scaled = F.pad(spectrogram / _LARGEST, (0, 0, 0, max(0, _BLOCK - spectrogram.shape[1])))
        last = scaled.shape[1] - _BLOCK
        starts = sorted({*range(0, last + 1, _BLOCK_HOP), last})
        return torch.stack([scaled[:, start : start + _BLOCK] for start in starts], dim=1)

    def _convolve(self, grid: Tensor) -> Tensor:
        grid = grid[:, None]
        for index, convolution in enumerate(self.convolutions):
            grid = F.relu(convolution(grid))
            if index in (1, 3, 5):
                grid = F.max_pool2d(grid, 2)
        return grid.mean(3).amax(2)


@torch.no_grad()
def judge_scores(
    judge: Judge,
    estimate: Float[Tensor, "b n"],
    *,
    reference: Float[Tensor, "b n"],
    mixture: Float[Tensor, " n"],
    sample_rate: int,
) -> JudgeScores:
    """How alike estimate and reference are in the judge's ears, and how much more than mixture and reference.

    Args:
        judge: from `load_judge`.
        estimate: separated waveforms; a silent one scores 0, the cosine of things that share nothing, because leaving
            it out would reward silence.
        reference: the targets in the same order; NaN for a silent one.
        mixture: the recording that they were separated from.
        sample_rate: Hz.

    Raises:
        UsageError: no samples, or a rate below 1 Hz.
    """
    ours, target, whole = judge(torch.cat([estimate, reference, mixture[None]]), sample_rate).split(
        [len(estimate), len(reference), 1]
    )
    cosine = (ours.nan_to_num(0.0) * target).sum(-1)
    baseline = (whole.nan_to_num(0.0) * target).sum(-1)
    return JudgeScores(cosine, baseline, cosine - baseline)


def load_judge(path: Path | None = None) -> Judge:
    """The judge, ready for use, on the CPU.

    Args:
        path: safetensors file of its weights; by default the fetched one.

    Raises:
        ModelError: the weights were not fetched (`marssep models fetch judge`) or do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = path or weights_folder("judge") / "judge.safetensors"
    judge = Judge()
    try:
        judge.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        cause = str(error).splitlines()[0]
        raise ModelError(
            f"{path}: cannot be used as the judge's weights ({cause}); run 'marssep models fetch judge --force'."
        ) from None
    return judge


def _mel_filters() -> Tensor:
    """Triangles of sum 1 on the HTK mel scale from 0 Hz to 22 050 Hz, `[1025, 96]`."""
    hertz = torch.linspace(0, SAMPLE_RATE / 2, _WINDOW // 2 + 1, dtype=torch.float64)
    high = 2595 * math.log10(1 + SAMPLE_RATE / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, high, N_MELS + 2, dtype=torch.float64) / 2595) - 1)
    rising = (hertz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz[:, None]) / (edges[2:] - edges[1:-1])
    triangles = torch.minimum(rising, falling).clamp_min(0)
    return (triangles / triangles.sum(0)).float()
