"""Architectures side by side: quality on a validation list, parameters, speed and memory of the network alone.

    python benchmarks/architectures.py RUN [RUN...] --corpus DIR [--list open-val] [--limit 100]

A run is what `marssep train supervised --output RUN` made: `best/` and `last/` (models) and `journal.jsonl`. Compare
runs of equal training time and data: the table states steps and seconds of each. The quality is that of `last/`, so
that no run is helped by having been validated more often.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from marssep.evaluate.results import write_text
from marssep.evaluate.versions import library_versions


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of training runs, or of models")
    parser.add_argument("--corpus", type=Path, action="append", default=[], help="repeatable")
    parser.add_argument("--list", default="open-val")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--which", choices=["last", "best"], default="last")
    parser.add_argument("--output", type=Path, default=Path("results/architectures.json"))
    parser.add_argument("--measure-network", action="store_true", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.measure_network:
        print(json.dumps(measure_network(settings.runs[0])))
        return
    rows = [describe(run, settings) for run in settings.runs]
    results = {
        "what": f"{settings.which} model of each run, first {settings.limit} mixtures of {settings.list}, by text",
        "rows": rows,
        "versions": library_versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_text(settings.output, json.dumps(results, indent=1) + "\n")
    print(markdown(rows))


def describe(run: Path, settings: argparse.Namespace) -> dict[str, Any]:
    """All figures of one run."""
    model = model_folder(run, settings.which)
    command = [sys.executable, __file__, str(model), "--measure-network"]
    network = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"run": run.name} | training(run) | network | quality(model, settings)


def model_folder(run: Path, which: str) -> Path:
    """The folder of a run that holds the model."""
    for folder in (run / which, run / "model", run):
        if (folder / "config.json").is_file():
            return folder
    raise SystemExit(f"{run}: no model; a run has {which}/config.json and {which}/model.safetensors.")


def training(run: Path) -> dict[str, Any]:
    """Steps, seconds and the curve of the validation by text, from the run's journal."""
    journal = run / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()] if journal.is_file() else []
    names = sorted({key for line in lines for key in line if key.endswith(("/text", "val_si_sdri_text"))})
    return {
        "steps": max((line["step"] for line in lines), default=None),
        "training_seconds": max((line["seconds"] for line in lines if "seconds" in line), default=None),
        "validation_by_text": {
            name: [[line["step"], round(line.get("seconds", 0.0)), line[name]] for line in lines if name in line]
            for name in names
        },
    }


def quality(model: Path, settings: argparse.Namespace) -> dict[str, Any]:
    """SI-SDRi by text with its interval, and how well presence tells present from absent."""
    from marssep.corpus.store import Corpus
    from marssep.evaluate import EvaluateSettings, evaluate
    from marssep.separate import Separator

    what = EvaluateSettings(modalities=("text",), baselines=("mixture",), limit=settings.limit, bss_mixtures=0)
    corpus = Corpus.open(settings.corpus)
    results = evaluate(Separator.load(model), corpus, mixtures=settings.list, settings=what).results
    row = results.row("model", "text")
    assert row is not None
    return {
        "si_sdr_improvement_db": row.si_sdr_improvement_db.model_dump(),
        "presence_area": results.presence[0].area if results.presence else None,
        "n_mixtures": results.mixtures.n_mixtures,
        "list_sha256": results.mixtures.sha256,
    }


def measure_network(model: Path, *, repeats: int = 15) -> dict[str, Any]:
    """Speed and memory of the network alone, one chunk and one query, in a process that does nothing else."""
    import torch

    from marssep.model import load_model

    before = peak_memory_mb()
    loaded = load_model(model)
    spectral = loaded.config.spectral
    power = torch.rand(1, spectral.n_bands, loaded.config.chunk_steps, generator=torch.Generator().manual_seed(0))
    query = torch.nn.functional.normalize(torch.ones(1, 1, loaded.config.query_dimension), dim=-1)
    seconds = []
    with torch.inference_mode():
        for _ in range(repeats + 2):
            start = time.perf_counter()
            loaded.network(power, query)
            seconds.append(time.perf_counter() - start)
    chunk_seconds = loaded.config.chunk_steps * spectral.step_seconds
    return {
        "architecture": loaded.config.architecture,
        "n_bands": spectral.n_bands,
        "step_ms": 1000 * spectral.step_seconds,
        "parameters": sum(parameter.numel() for parameter in loaded.network.parameters()),
        "network_real_time_factor": round(statistics.median(seconds[2:]) / chunk_seconds, 5),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "peak_memory_before_loading_mb": round(before, 1),
        "threads": torch.get_num_threads(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def peak_memory_mb() -> float:
    """Highest resident memory of this process so far."""
    per_mb = 2**20 if platform.system() == "Darwin" else 2**10  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_mb


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table, best first."""
    header = ["run", "architecture", "parameters", "training", "SI-SDRi by text", "network RTF", "peak memory"]
    lines = [header, ["---"] * len(header)]
    for row in sorted(rows, key=lambda row: -(row["si_sdr_improvement_db"]["mean"] or 0.0)):
        figure = row["si_sdr_improvement_db"]
        interval = f" [{figure['low']:.2f}, {figure['high']:.2f}]" if figure["low"] is not None else ""
        minutes = "?" if row["training_seconds"] is None else f"{row['training_seconds'] / 60:.1f}"
        lines.append(
            [
                row["run"],
                f"{row['architecture']}, {row['n_bands']} bands, {row['step_ms']:g} ms",
                f"{row['parameters']:,}",
                f"{minutes} min, {row['steps']} steps",
                f"{figure['mean'] or 0.0:.2f}{interval}",
                f"{row['network_real_time_factor']:.4f}",
                f"{row['peak_memory_mb']:.0f} MB",
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
