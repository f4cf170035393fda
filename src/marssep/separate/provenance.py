"""Where a result comes from: what the sidecar says, and how a finished result is known again."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from marssep.audio import Audio
from marssep.errors import InputError, OutputError
from marssep.query import Query
from marssep.separate.naming import describe_query

_NUMBERS = re.compile(r"\[\n[-+\d.,eE\s]+\]")  # a list of them; strings in JSON have no line breaks


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a result comes from, for the sidecar.

    Attributes:
        input: name of the file, or `waveform`.
        input_sha256: of the file's bytes, or of the samples given.
        subtype: sample format of the input file.
        query: what was asked for, in words: `text`, `audio`, `image`, `like`, `weights`, `negative`, `negative_in`.
        model: name or path.
        model_sha256: of the weights.
        presence_threshold: presence below which a sound counts as absent.
        attenuated_db: by how much the target was turned down because the sound is absent; 0 if it was not.
        versions: of marssep and torch.
        settings: what else decides the result.
    """

    input: str
    input_sha256: str
    subtype: str
    query: dict[str, Any]
    model: str
    model_sha256: str
    presence_threshold: float
    attenuated_db: float
    versions: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SavedFiles:
    """Paths of the files that were written for one query."""

    target: Path
    residual: Path
    sidecar: Path
    picture: Path | None


def sidecar_row(
    files: SavedFiles,
    provenance: Provenance,
    *,
    presence: float,
    present: bool,
    confidence: Sequence[float],
    sample_rate: int,
    shape: tuple[int, int],
) -> dict[str, Any]:
    """What a sidecar says; files are named as seen from its folder.

    Args:
        files: that were written.
        provenance: of the result.
        presence: probability that the sound is there.
        present: whether that reached the threshold.
        confidence: probability that the sound can be heard, for every second.
        sample_rate: Hz.
        shape: channels and samples.
    """
    channels, length = shape
    return {
        "target": _seen_from(files.sidecar, files.target),
        "residual": _seen_from(files.sidecar, files.residual),
        "picture": _seen_from(files.sidecar, files.picture) if files.picture else None,
        "presence": round(presence, 6),
        "present": present,
        "confidence": [round(each, 3) for each in confidence],
        "sample_rate": sample_rate,
        "channels": channels,
        "length": length,
        "duration": length / sample_rate,
    } | asdict(provenance)


def fingerprint(
    queries: Sequence[Query], *, input_sha256: str, model: Mapping[str, str], settings: Mapping[str, Any]
) -> str:
    """A checksum of all that decides a result: input, model, queries with the contents of their files, settings."""
    # contents count, not names
    described = [describe_query(query) | {"audio": None, "image": None} | _contents(query) for query in queries]
    facts = {"input": input_sha256, "model": dict(model), "queries": described, "settings": dict(settings)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def finished_row(sidecar: Path, mark: str, *, picture: bool) -> dict[str, Any] | None:
    """What the sidecar of a finished result says; None if there is none with this fingerprint and all its files.

    Args:
        sidecar: where it would be.
        mark: `fingerprint` of the result that is wanted.
        picture: whether a picture is wanted too.
    """
    try:
        row = json.loads(sidecar.read_text(encoding="utf-8"))
        if row["fingerprint"] != mark or (picture and not row["picture"]):
            return None
        wanted = dict(row["bytes"])
        if picture:
            wanted["picture"] = (sidecar.parent / row["picture"]).stat().st_size
        sizes = {part: (sidecar.parent / row[part]).stat().st_size for part in wanted}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return row if sizes == wanted else None


def write_sidecar(path: Path, row: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all.

    Raises:
        OutputError: if it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        # A file name that is not UTF-8 has surrogates, whose backslash escapes are JSON's own.
        text = _NUMBERS.sub(_one_line, json.dumps(row, indent=1, ensure_ascii=False)) + "\n"
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another output folder.") from None
    finally:
        with contextlib.suppress(OSError):  # an unreachable folder has been reported already
            partial.unlink(missing_ok=True)


def _one_line(numbers: re.Match[str]) -> str:
    """Ten thousand seconds need no ten thousand lines."""
    return re.sub(r"\s+", " ", numbers.group()).replace("[ ", "[").replace(" ]", "]")


def _seen_from(sidecar: Path, path: Path) -> str:
    return Path(os.path.relpath(path, sidecar.parent)).as_posix()


def _contents(query: Query) -> dict[str, str]:
    """Checksums of the examples and pictures of a query."""
    made = {}
    for kind in ("audio", "image"):
        value = getattr(query, kind)
        if value is None:
            continue
        digest = hashlib.sha256()
        if isinstance(value, Audio):
            value = (value.waveform, value.sample_rate)
        if isinstance(value, tuple):
            digest.update(np.ascontiguousarray(value[0]).tobytes() + str(value[1]).encode())
        elif isinstance(value, Image.Image):
            digest.update(value.tobytes())
        else:
            try:
                digest.update(Path(value).read_bytes())
            except OSError as error:
                raise InputError(f"{value}: cannot be read ({error.strerror}); check the path.") from None
        made[f"{kind}_sha256"] = digest.hexdigest()
    return made
