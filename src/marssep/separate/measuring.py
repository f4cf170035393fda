"""What separating costs in a process of its own, and how far a stream is from the computation on the whole."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from marssep.errors import MarssepError
from marssep.model import LoadedModel, normalise
from marssep.separate.adapting import learn_whole
from marssep.separate.chunks import Competition, propose
from marssep.spectral.directions import channels_differ

MOST_DB = 200.0
"""Of a signal-to-noise ratio: what equal numbers get."""
_FRAMES = 4096  # filtered at once

# A child's peak as its parent sees it is never below what the parent held when it forked, so the child says it itself.
_CHILD = """
import json, pathlib, sys, time
from marssep.cli import run
code = run(sys.argv[2:])
from marssep.separate.measuring import peak_memory_mb
cost = {"processor_seconds": time.process_time(), "peak_memory_mb": peak_memory_mb()}
pathlib.Path(sys.argv[1]).write_text(json.dumps(cost))
sys.exit(code)
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took.

    Attributes:
        wall_seconds: from its start to its end, Python and all loading included.
        processor_seconds: of all its threads.
        peak_memory_mb: largest resident size, in units of 2^20 bytes.
    """

    wall_seconds: float
    processor_seconds: float
    peak_memory_mb: float


def measure_command(arguments: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Cost:
    """Run `marssep ARGUMENTS...` in a fresh process; its standard output is thrown away.

    Args:
        arguments: of the command line.
        environment: variables to set besides those of this process.

    Raises:
        MarssepError: if the command fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "cost.json")
        command = [sys.executable, "-c", _CHILD, str(place), *arguments]
        start = time.perf_counter()
        variables = os.environ | dict(environment or {})
        ran = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=variables)
        wall = time.perf_counter() - start
        if ran.returncode or not place.is_file():
            said = ran.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {ran.returncode}"]
            raise MarssepError(f"'marssep {arguments[0]}' failed: {said[-1].removeprefix('marssep: ')}")
        return Cost(wall, **json.loads(place.read_text()))


def peak_memory_mb() -> float:
    """Largest resident size that this process has had so far, in units of 2^20 bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # the figure of getrusage also counts what the process was before it became this program
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def whole_target(
    model: LoadedModel, waveform: Float[Tensor, "c n"], sample_rate: int, query: Float[Tensor, "q d"]
) -> Float[Tensor, "c n"]:
    """The target with nothing cut into blocks: one spectrogram, one mask of the same chunks, one inverse.

    Args:
        model: network and settings.
        waveform: of the whole recording; a second at 48 kHz takes about 2 MB of working memory.
        sample_rate: Hz.
        query: the target's embedding, followed by those of negatives.
    """
    power = _grid(model, waveform, sample_rate)
    mask = propose(model.network, power, query, chunk_steps=model.config.chunk_steps).mask
    return _masked(model, waveform, sample_rate, mask)


@torch.inference_mode()
def one_pass_target(
    model: LoadedModel, waveform: Float[Tensor, "c n"], sample_rate: int, query: Float[Tensor, "q d"]
) -> Float[Tensor, "c n"]:
    """As `whole_target`, with one pass of the network over all columns, which it was not trained for."""
    power = _grid(model, waveform, sample_rate)
    logits = model.network(power[None] * normalise(power[None]), query[None]).logits.float()
    mask = Competition((0,), (tuple(range(1, len(query))),)).masks(logits)[0, 0]
    return _masked(model, waveform, sample_rate, mask)


def snr_by_window(estimate: Float[Tensor, "c n"], reference: Float[Tensor, "c n"], size: int) -> Float[Tensor, " w"]:
    """Signal-to-noise ratio of every `size` samples, the last ones fewer, in dB within plus and minus `MOST_DB`."""
    pairs = zip(estimate.split(size, dim=-1), reference.split(size, dim=-1), strict=True)
    return torch.tensor([snr_db(one, true) for one, true in pairs])


def snr_db(estimate: Float[Tensor, "c n"], reference: Float[Tensor, "c n"]) -> float:
    """Signal-to-noise ratio in dB within plus and minus `MOST_DB`; of equal signals `MOST_DB`, silent ones too."""
    error = (estimate.double() - reference.double()).square().sum()
    if error == 0:
        return MOST_DB
    ratio = 10.0 * torch.log10(reference.double().square().sum() / error)
    return float(ratio.clamp(-MOST_DB, MOST_DB))


@torch.inference_mode()
def _grid(model: LoadedModel, waveform: Tensor, sample_rate: int) -> Tensor:
    spectral = model.spectral
    grids = [spectral.to_grid(spectral.stft(channel, sample_rate), sample_rate) for channel in waveform]
    return torch.stack(grids).mean(0)


@torch.inference_mode()
def _masked(model: LoadedModel, waveform: Tensor, sample_rate: int, mask: Tensor) -> Tensor:
    spectral = model.spectral
    wide = spectral.from_grid(mask, sample_rate, spectral.n_frames(waveform.shape[-1], sample_rate)).numpy()
    spectrum = spectral.stft(waveform, sample_rate)
    differ = channels_differ(waveform.numpy())
    with learn_whole(spectrum, mask[None], sample_rate, spectral, directions=differ) as adaptation:
        for first in range(0, spectrum.shape[-1], _FRAMES):
            part = slice(first, first + _FRAMES)
            made = adaptation.apply(spectrum[..., part].numpy(), wide[:, part], first_frame=first)
            spectrum[..., part] = torch.from_numpy(made)
    # One channel after another: the frames of ten minutes at 48 kHz take half a gigabyte.
    return torch.stack([spectral.istft(each, sample_rate, waveform.shape[-1]) for each in spectrum])
