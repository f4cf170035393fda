"""A model's README: what it is, what it heard, how it was trained and how well it does, from its card and results."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marssep.errors import ModelError
from marssep.evaluate.results import Results, read_results, write_text
from marssep.evaluate.table import markdown
from marssep.model import LoadedModel, load_model


def write_card(folder: Path, results: Sequence[Path]) -> None:
    """Put results into a model's `card.json` and write its `README.md` (the Hub's layout).

    Args:
        folder: of a released model.
        results: what `marssep evaluate` wrote for this model.

    Raises:
        ModelError: if a results file is of another model.
    """
    model = load_model(folder)
    read = [read_results(path) for path in results]
    for path, found in zip(results, read, strict=True):
        if found.model.sha256 != model.sha256:
            raise ModelError(f"{path}: results of another model than {folder}; run 'marssep evaluate' on this one.")
    card = model.card | {"results": {found.mixtures.name: _summary(found) for found in read}}
    write_text(folder / "card.json", json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / "README.md", card_markdown(model, card, read))


def card_markdown(model: LoadedModel, card: Mapping[str, Any], results: Sequence[Results]) -> str:
    """The model card as Markdown with the Hub's front matter."""
    released = card.get("released", {})
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    presence, quiet = released.get("presence", {}), model.config.quiet_threshold
    tried = ", ".join(f"x{scale} {gain:.2f} dB" for scale, gain in released.get("tried", {}).items())
    members: Mapping[str, Mapping[str, Any]] = card.get("members", {})
    way = "join" if members else "mean" if "averaged" in card else None
    joined = f" and `marssep models {way}`" if way else ""
    parts = [
        f"---\nlibrary_name: marssep\npipeline_tag: audio-to-audio\nlicense: {card.get('licence', '').lower()}\n---",
        f"# A marssep separator (`{model.config.architecture}`)",
        f"{parameters:,} parameters, weights sha256 `{model.sha256[:16]}`, queries by the encoder "
        f"`{model.config.encoder}`. Made {card.get('date', '')} by `marssep train supervised`{joined} and "
        "`marssep models release`; every setting stands in `card.json`.",
    ]
    if not members:
        parts += _origin(card)
    for name, member in members.items():
        parts += [f"# Network {name} of {len(members)} (`{member.get('sha256', '')[:16]}`)", *_origin(member)]
    parts += [
        "## Chosen on validation\n\n"
        f"{_weights(released)}"
        f"* factor of the mask's logits: {released.get('scale')} ({tried})\n"
        f"* presence threshold {model.config.presence_threshold}"
        + ("" if quiet is None else f" ({quiet} for quiet targets)")
        + f": rejects {presence.get('rejected', 0):.1%} of absent "
        f"queries and keeps {presence.get('kept', 0):.1%} of the improvement of present ones there "
        f"(area under the ROC curve {presence.get('area', 0):.3f})",
        "## Results\n\n" + "\n".join(markdown(found, classes=True) for found in results),
    ]
    return "\n\n".join(parts) + "\n"


def _origin(card: Mapping[str, Any]) -> list[str]:
    """What a network was trained on and how; of a mean of several weights, of each of them."""
    if "averaged" not in card:
        return [*_data(card), *_training(card)]
    parts: list[str] = []
    told: dict[str, Any] = {}
    for name, part in card["averaged"].items():
        parts += [f"## Mean of weights, {name} of {len(card['averaged'])} (`{part.get('sha256', '')[:16]}`)"]
        if "averaged" in part:
            parts += _origin(part)
            continue
        data = part.get("data")
        same = next((other for other, its in told.items() if data and its == data), None)
        told[name] = data
        parts += _data(part) if same is None else [f"## Data\n\nThe same as of {same}."]
        parts += _training(part)
    return parts


def _data(card: Mapping[str, Any]) -> list[str]:
    data = card.get("data", {})
    return [
        "## Data\n\n"
        f"{data.get('recordings', 0):,} recordings ({data.get('hours', 0)} h) and {data.get('pictures', 0):,} pictures "
        f"of {len(card.get('classes', []))} classes; manifest sha256 "
        + ", ".join(f"`{digest[:16]}`" for digest in data.get("manifests_sha256", []))
        + ". No recording of the validation and test splits is among them; docs/corpus.md says how they were made.",
        _table("licence", data.get("items_by_licence", {})),
        _table("source", data.get("items_by_source", {})),
        "Classes: " + ", ".join(f"`{label}`" for label in card.get("classes", [])) + ".",
    ]


def _training(card: Mapping[str, Any]) -> list[str]:
    training = card.get("training", {})
    return [
        "## Training\n\n"
        f"{training.get('steps', 0):,} steps in {training.get('training_seconds', 0) / 60:.0f} minutes, seed "
        f"{training.get('settings', {}).get('seed')}{_start(training)}. SI-SDRi on validation while it trained:",
        _curve(card.get("validation_curve", [])),
    ]


def _start(training: Mapping[str, Any]) -> str:
    """The legs before, newest first."""
    legs, before = "", training.get("started_from")
    while before:
        own = before.get("training", before)
        minutes = own.get("training_seconds", 0) / 60
        legs += f"; started from `{before['sha256'][:16]}` ({own.get('steps', 0):,} steps in {minutes:.0f} minutes)"
        before = own.get("started_from")
    return legs


def _weights(released: Mapping[str, Any]) -> str:
    if "weights" not in released:
        return ""
    tried = ", ".join(f"{name} {gain:.2f} dB" for name, gain in released["weights_tried"].items())
    return f"* weights: {released['weights']} ({tried})\n"


def _summary(results: Results) -> dict[str, float | None]:
    rows = [row for row in results.systems if row.group == "all" and row.system == "model"]
    return {f"SI-SDRi by {row.modality} (dB)": _rounded(row.si_sdr_improvement_db.mean) for row in rows}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _table(name: str, counts: Mapping[str, int]) -> str:
    return "\n".join([f"| {name} | items |", "|---|---|", *(f"| {key} | {count} |" for key, count in counts.items())])


def _curve(lines: Sequence[Mapping[str, float]]) -> str:
    names = sorted({key for line in lines for key in line if key.split("/")[-1] in {"text", "audio", "image"}})
    header = f"| step | minutes | {' | '.join(names)} |"
    rows = [
        f"| {line['step']} | {line['seconds'] / 60:.0f} | "
        + " | ".join(f"{line.get(name, 0):.2f}" for name in names)
        + " |"
        for line in lines
    ]
    return "\n".join([header, "|" + "---|" * (len(names) + 2), *rows])
