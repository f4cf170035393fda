"""Write a model and what answers its queries as a folder for `marssep.runtime`."""

import hashlib
import io
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import marssep
from marssep.errors import ModelError, OutputError, UsageError
from marssep.export.graphs import (
    audio_trunk_graph,
    guesses_graph,
    head_graph,
    image_trunk_graph,
    network_graph,
    text_graph,
)
from marssep.query.heads import MixtureHead
from marssep.query.open_encoder import OpenEncoder
from marssep.query.readings import KEPT
from marssep.query.weights import weights_folder
from marssep.runtime.folder import CONFIG_FILE, ExportedFile, PresenceSettings, ReadingSettings, RuntimeConfig
from marssep.runtime.hearing import KIN, LOUD
from marssep.separate import Separator
from marssep.separate.chunks import OTHERS, OVERLAP, QUIET
from marssep.separate.presence import WINDOWS, Gate
from marssep.settings import Settings

_NAMES = {
    "network": "network.onnx",
    "queries": "queries.npz",
    "audio_trunk": "audio-trunk.onnx",
    "audio_head": "audio-head.onnx",
    "rivals": "rivals.npz",
    "text": "text.onnx",
    "tokenizer": "tokenizer.json",
    "image": "image.onnx",
    "image2": "image2.onnx",
    "image_head": "image-head.onnx",
    "image_places": "image-places.npz",
}


class ExportSettings(Settings):
    """What goes into the folder beside the mask network."""

    texts: tuple[str, ...] = ()
    """Queries whose embeddings are stored, so that they can be asked without the text encoder."""
    text_encoder: bool = False
    """The text encoder too: any words can be asked, for 90 MB more."""
    image_encoder: bool = False
    """The image encoder too: any picture can be asked, for 36 MB more."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        config: as in `runtime.json`.
        sizes: of the files, in bytes, by name.
    """

    config: RuntimeConfig
    sizes: dict[str, int] = field(default_factory=dict)


def export_model(
    separator: Separator,
    folder: str | os.PathLike[str],
    *,
    settings: ExportSettings | None = None,
    report: Callable[[str], None] | None = None,
) -> Exported:
    """Export a model; `runtime.json` is written last, so a folder that was cut off is not taken for a whole one.

    The audio encoder goes along where the model listens to the target or, for pictures, to the mixture; it answers
    queries by example too.

    Args:
        separator: model and query encoder.
        folder: made if missing.
        settings: what goes along.
        report: told of every file.

    Raises:
        ModelError: if onnxscript is missing, or the encoder cannot be exported though it is needed.
        OutputError: if the folder cannot be written.
        UsageError: if nothing could be asked of the result.
    """
    folder, settings = Path(folder), settings or ExportSettings()
    config, encoder = separator.model.config, separator.encoder
    listens = config.evidence_weights.listens or (settings.image_encoder and bool(config.reading_match))
    encoders = settings.text_encoder or settings.image_encoder
    if not settings.texts and not encoders and not listens:
        raise UsageError(
            "Nothing could be asked of this export; name queries with --text, or add --text-encoder or --image-encoder."
        )
    if (listens or encoders) and not isinstance(encoder, OpenEncoder):
        raise ModelError(f"The encoder '{encoder.name}' has no ONNX form; export its queries with --text instead.")
    files = _files(separator, settings, listens=listens)
    written: dict[str, ExportedFile] = {}
    sizes: dict[str, int] = {}
    _make(folder)
    for role, make in files.items():
        name, data = _NAMES[role], make()
        _write(folder / name, data)
        written[role] = ExportedFile(name=name, sha256=hashlib.sha256(data).hexdigest())
        sizes[name] = len(data)
        if report is not None:
            report(f"{folder / name} ({len(data) / 1e6:.1f} MB)")
    made = _config(separator, settings, written)
    text = json.dumps(made.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    _write(folder / CONFIG_FILE, text.encode())
    return Exported(made, sizes)


def _files(separator: Separator, settings: ExportSettings, *, listens: bool) -> dict[str, Callable[[], bytes]]:
    """What makes each file, by role; one at a time, so that only one is in memory."""
    model, encoder = separator.model, separator.encoder
    files: dict[str, Callable[[], bytes]] = {
        "network": lambda: network_graph(model.network, chunk_steps=model.config.chunk_steps)
    }
    if settings.texts:
        files["queries"] = lambda: _array(encoder.embed_names(settings.texts))
    if isinstance(encoder, OpenEncoder):
        if listens:
            files["audio_trunk"] = lambda: audio_trunk_graph(encoder.audio_trunk)
            files["audio_head"] = lambda: head_graph(encoder.heads["audio"])
            files["rivals"] = lambda: _array(encoder.embed_names(model.config.presence_rivals))
        if settings.text_encoder:
            files["text"] = lambda: text_graph(encoder.text_trunk, encoder.heads["text"])
            files["tokenizer"] = (weights_folder(encoder.name) / "tokenizer.json").read_bytes
        if settings.image_encoder:
            head = encoder.heads["image"]
            assert isinstance(head, MixtureHead)
            files["image"] = lambda: image_trunk_graph(encoder.image_trunk)
            files["image2"] = lambda: image_trunk_graph(encoder.second_image_trunk)
            files["image_head"] = lambda: guesses_graph(head)
            files["image_places"] = lambda: _array(head.places)
    return files


def _config(separator: Separator, settings: ExportSettings, files: dict[str, ExportedFile]) -> RuntimeConfig:
    model, config = separator.model, separator.model.config
    gate = Gate.of(config)
    return RuntimeConfig(
        model=Path(separator.name).name,
        model_sha256=model.sha256,
        spectral=config.spectral,
        band_frequencies=tuple(round(float(hertz), 4) for hertz in model.spectral.band_frequencies()),
        chunk_steps=config.chunk_steps,
        overlap=OVERLAP,
        quiet=QUIET,
        others=OTHERS,
        windows=WINDOWS,
        loud=LOUD,
        kin=KIN,
        query_dimension=config.query_dimension,
        encoder=config.encoder,
        presence=PresenceSettings(
            **asdict(config.evidence_weights),
            threshold=gate.threshold,
            quiet_threshold=gate.quiet_threshold,
            quiet_db=gate.quiet_db,
            absent_attenuation_db=gate.attenuation_db,
        ),
        reading=ReadingSettings(
            kept=KEPT, bias=config.reading_bias, network=config.reading_network, match=config.reading_match
        ),
        files=files,
        queries=settings.texts,
        versions={
            "python": platform.python_version(),
            "marssep": marssep.__version__,
            "torch": str(torch.__version__),
            "onnx": version("onnx"),
        },
    )


def _array(embeddings: Float[Tensor, "k d"]) -> bytes:
    made = io.BytesIO()
    np.savez(made, embeddings=embeddings.detach().cpu().numpy())
    return made.getvalue()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).unlink(missing_ok=True)  # of an earlier export, whose files are about to be replaced
    except OSError as error:
        raise OutputError(f"{folder}: cannot make this output folder ({error.strerror}); choose another.") from None


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another output folder.") from None
