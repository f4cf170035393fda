"""Is everything here that separating needs: what `marssep doctor` looks at."""

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import torch

import marssep
from marssep.audio import codecs
from marssep.errors import MarssepError
from marssep.model import LoadedModel, load_model
from marssep.query.encoder import load_encoder
from marssep.query.weights import cache_folder, check_fetched

State = Literal["good", "note", "broken"]

_NEEDED = (
    "numpy",
    "scipy",
    "torch",
    "soundfile",
    "soxr",
    "safetensors",
    "tokenizers",
    "pydantic",
    "pillow",
    "cyclopts",
)
_EXTRAS = {
    "train": "accelerate",
    "evaluate": "museval",
    "hub": "huggingface_hub",
    "encoders": "transformers",
    "export": "onnxscript",
    "runtime": "onnxruntime",
    "video": "av",
    "listen": "starlette",
}
_ROOM = 200 << 20  # bytes for the encoders' weights, with some to spare while they are converted


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        state: `good`; `note`, when something optional is missing; `broken`, when separating will fail.
        what: what was found, for people.
        advice: what to do; empty if nothing.
    """

    name: str
    state: State
    what: str
    advice: str = ""


def examine(model: str = "default") -> list[Finding]:
    """Look at everything; nothing is raised, nothing is downloaded, and only temporary files are written.

    Args:
        model: a shipped model's name or a model folder.
    """
    findings = [_python(), _libraries(), _extras(), *_codecs(), _devices(), _threads()]
    loaded, found = _model(model)
    findings.append(found)
    findings += _encoder(loaded.config.encoder if loaded is not None else "open")
    findings += [_writeable("cache", cache_folder()), _writeable("temporary folder", Path(tempfile.gettempdir()))]
    return findings


def _python() -> Finding:
    return Finding(
        "environment",
        "good" if sys.version_info >= (3, 11) else "broken",
        f"marssep {marssep.__version__}, Python {platform.python_version()} on {platform.platform(terse=True)}",
        "" if sys.version_info >= (3, 11) else "use Python 3.11 or newer",
    )


def _libraries() -> Finding:
    here, missing = [], []
    for name in _NEEDED:
        try:
            here.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("libraries", "broken", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return Finding("libraries", "good", ", ".join(here))


def _extras() -> Finding:
    here = [name for name, module in _EXTRAS.items() if importlib.util.find_spec(module) is not None]
    missing = [name for name in _EXTRAS if name not in here]
    what = f"installed: {', '.join(here) or 'none'}"
    if not missing:
        return Finding("extras", "good", what)
    return Finding("extras", "note", what, f"for more: pip install 'marssep[{','.join(missing)}]'")


def _codecs() -> Iterator[Finding]:
    found = codecs()
    wanted = {"WAV", "FLAC", "OGG", "MP3"}
    missing = sorted(wanted - set(found.formats))
    opus = "OPUS" in found.subtypes.get("OGG", ())
    what = f"libsndfile {found.libsndfile} reads and writes {', '.join(sorted(found.formats))}"
    if missing:
        state: State = "broken" if {"WAV", "FLAC"} & set(missing) else "note"
        yield Finding("codecs", state, what, f"no {', '.join(missing)}: pip install --upgrade soundfile")
    elif not opus:
        yield Finding("codecs", "note", what, "no Ogg Opus: pip install --upgrade soundfile")
    else:
        yield Finding("codecs", "good", what)


def _devices() -> Finding:
    what = [f"CPU {platform.processor() or platform.machine()}"]
    if torch.cuda.is_available():
        what += [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        what.append("Apple GPU")
    return Finding("devices", "good", ", ".join(what) + "; separating runs on the CPU")


def _threads() -> Finding:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    used = torch.get_num_threads()
    what = (
        f"{used} of torch, {allowed} processors allowed, OMP_NUM_THREADS {os.environ.get('OMP_NUM_THREADS', 'not set')}"
    )
    if used > allowed:
        return Finding("threads", "note", what, f"they will wait for each other: set OMP_NUM_THREADS={allowed}")
    return Finding("threads", "good", what)


def _model(name: str) -> tuple[LoadedModel | None, Finding]:
    try:
        loaded = load_model(name)
    except MarssepError as error:
        return None, Finding("model", "broken", str(error), "name a shipped model or a model folder, or install again")
    stated = loaded.card.get("sha256")
    what = f"{name}: {loaded.config.architecture}, sha256 {loaded.sha256[:12]}, encoder '{loaded.config.encoder}'"
    if stated is not None and stated != loaded.sha256:
        return loaded, Finding("model", "broken", f"{what}; its card says {stated[:12]}", "copy or install it again")
    return loaded, Finding("model", "good", what)


def _encoder(name: str) -> Iterator[Finding]:
    yield _weights(name)
    try:
        encoder = load_encoder(name)
    except MarssepError as error:
        yield Finding("encoder", "broken", str(error), f"marssep models fetch {name} --force")
        return
    what = f"'{encoder.name}' places queries in {encoder.dimension} dimensions ({encoder.fingerprint})"
    yield Finding("encoder", "good", what)


def _weights(name: str) -> Finding:
    try:
        checked = check_fetched(name)
    except MarssepError as error:
        return Finding("encoder weights", "broken", str(error), f"marssep models fetch {name}")
    if not checked:
        return Finding("encoder weights", "good", f"'{name}' has none to fetch")
    changed = [part for part, same in checked.items() if same is False]
    if changed:
        return Finding(
            "encoder weights",
            "broken",
            f"changed since they were fetched: {', '.join(changed)}",
            f"marssep models fetch {name} --force",
        )
    unknown = [part for part, same in checked.items() if same is None]
    if unknown:
        return Finding(
            "encoder weights",
            "note",
            f"fetched before checksums were kept: {', '.join(unknown)}",
            f"to have them checked: marssep models fetch {name} --force",
        )
    return Finding("encoder weights", "good", f"checksums hold: {', '.join(checked)}")


def _writeable(name: str, folder: Path) -> Finding:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    advice = f"set {'MARSSEP_CACHE' if name == 'cache' else 'TMPDIR'} to a folder you own"
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0" * 4096)
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Finding(name, "broken", f"{folder} cannot be written ({error.strerror})", advice)
    what = f"{folder}, {free / 2**30:.1f} GiB free"
    if free < _ROOM:
        return Finding(name, "note", what, f"nearly full: make room, or {advice}")
    return Finding(name, "good", what)
