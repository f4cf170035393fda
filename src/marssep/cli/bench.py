"""`marssep bench`: what separating a recording costs here, and how exact the stream is."""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter


def bench(
    recording: Path,
    *,
    text: str = "dog barking",
    model: str = "default",
    compare: float = 60.0,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), show_default=False)] = False,
) -> None:
    """Measure speed and memory of separating a recording, and the stream against the computation on the whole.

    The recording is separated in a process of its own into a temporary folder; nothing is kept.

    Args:
        recording: An audio file of any length.
        text: The sound to ask for.
        model: A shipped model's name or a model folder.
        compare: Seconds from the beginning that are also computed as a whole, which takes 2 MB of memory each.
        as_json: Print JSON.
    """
    from marssep.errors import UsageError

    if compare <= 0:
        raise UsageError(f"--compare {compare:g}: give a positive number of seconds.")
    figures = _cost(recording, text, model) | _exactness(recording, text, model, compare)
    if as_json:
        print(json.dumps(figures, indent=1))
        return
    seconds, wall, processor = figures["seconds"], figures["wall_seconds"], figures["processor_seconds"]
    print(f"recording         {seconds:.1f} s, {figures['channels']} channels at {figures['sample_rate']} Hz")
    print(f"real-time factor  {figures['real_time_factor']:.4f} ({wall:.2f} s; {processor:.2f} s of processor time)")
    print(f"start             {figures['start_seconds']:.2f} s of these, by a process that separates one second")
    print(f"peak memory       {figures['peak_memory_mb']:.0f} MB")
    print(
        f"stream            {figures['stream_snr_db']:.1f} dB to the computation on the whole, in the worst second of "
        f"the first {figures['compared_seconds']:.1f} s"
    )
    print(f"chunks            {figures['one_pass_snr_db']:.1f} dB to one pass of the network over all of them")


def _cost(recording: Path, text: str, model: str) -> dict[str, Any]:
    from marssep.audio import write_audio
    from marssep.separate.measuring import measure_command

    waveform, sample_rate, channels = _beginning(recording, 1.0)
    with tempfile.TemporaryDirectory() as folder:
        excerpt = Path(folder, "excerpt.wav")
        write_audio(excerpt, waveform, sample_rate=sample_rate)
        options = ["--text", text, "--model", model, "--output", folder]
        start = measure_command(["separate", str(excerpt), *options, "--template", "start/{part}"])
        cost = measure_command(["separate", str(recording), *options, "--template", "all/{part}"])
        (sidecar,) = Path(folder, "all").glob("*.json")
        seconds = json.loads(sidecar.read_text(encoding="utf-8"))["duration"]
    return {
        "recording": str(recording),
        "seconds": seconds,
        "channels": channels,
        "sample_rate": sample_rate,
        "real_time_factor": cost.wall_seconds / seconds,
        "wall_seconds": cost.wall_seconds,
        "start_seconds": start.wall_seconds,
        "processor_seconds": cost.processor_seconds,
        "peak_memory_mb": cost.peak_memory_mb,
    }


def _exactness(recording: Path, text: str, model: str, compare: float) -> dict[str, Any]:
    import torch

    from marssep.query import Query
    from marssep.separate import Separator
    from marssep.separate.measuring import one_pass_target, snr_by_window, snr_db, whole_target

    separator, query = Separator.load(model), Query(text=text)
    waveform, sample_rate, _ = _beginning(recording, compare)
    stream = separator.separate_query((waveform, sample_rate), query, gate=False).target
    given = (separator.model, torch.from_numpy(waveform), sample_rate, separator.embed(query))
    whole = whole_target(*given)
    return {
        "compared_seconds": waveform.shape[-1] / sample_rate,
        "stream_snr_db": float(snr_by_window(torch.from_numpy(stream), whole, sample_rate).min()),
        "one_pass_snr_db": snr_db(whole, one_pass_target(*given)),
    }


def _beginning(recording: Path, seconds: float) -> tuple[np.ndarray, int, int]:
    from marssep.audio import AudioFile

    with AudioFile(recording) as file:
        wanted, parts, held = max(1, round(seconds * file.sample_rate)), [], 0
        for block in file.blocks(1 << 16):
            parts.append(block[:, : wanted - held])
            held += parts[-1].shape[-1]
            if held == wanted:
                break
        return np.concatenate(parts, axis=1), file.sample_rate, file.channels
