"""The list of kept recordings: what is written is read again, and every fault is named."""

import json
from pathlib import Path

import numpy as np
import pytest

from marssep.audio import write_audio
from marssep.errors import InputError
from marssep.evaluate.kept import KeptItem, read_kept, read_kept_audio, write_kept

LINE = {
    "mixture_id": "000012",
    "query": 0,
    "label": "dog",
    "text": "dog barking",
    "mixture": "audio/mixture.flac",
    "reference": "audio/reference.flac",
    "estimates": {"model/text": "audio/model.flac"},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "audio").mkdir()
    for name in ("mixture", "reference", "model"):
        write_audio(tmp_path / "audio" / f"{name}.flac", 0.1 * np.ones(800), sample_rate=8000)
    (tmp_path / "items.jsonl").write_text(json.dumps(LINE) + "\n")
    return tmp_path


def test_what_is_written_is_read_again(run: Path) -> None:
    items = read_kept(run)
    assert items == [KeptItem(**LINE)]
    assert items[0].name == "000012/q0"
    write_kept(run, items)
    assert json.loads((run / "items.jsonl").read_text()) == LINE
    assert read_kept_audio(run, items[0]).estimates["model/text"].shape == (1, 800)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"estimates": {}}, "names no system"),
        ({"mixture": "audio/gone.flac"}, "gone.flac is missing"),
        ({"reference": "../other.flac"}, "inside it"),
        ({"reference": "/etc/passwd"}, "inside it"),
        ({"text": ""}, "'text' is missing"),
        ({"query": True}, "'query' is True"),
        ({"query": -1}, "'query' is -1"),
        ({"estimates": {"model": 3}}, "path 3"),
    ],
)
def test_a_fault_is_named(run: Path, change: dict, message: str) -> None:
    (run / "items.jsonl").write_text(json.dumps(LINE | change) + "\n")
    with pytest.raises(InputError, match=message):
        read_kept(run)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "lists no items"), ("{", "not JSON"), ("[]", "no JSON object"), (2 * (json.dumps(LINE) + "\n"), "twice")],
)
def test_a_broken_list_is_named(run: Path, text: str, message: str) -> None:
    (run / "items.jsonl").write_text(text)
    with pytest.raises(InputError, match=message):
        read_kept(run)


def test_no_list(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="keep-audio"):
        read_kept(tmp_path)


@pytest.mark.parametrize(
    ("n", "rate", "message"), [(700, 8000, "700 samples on 1 channel"), (800, 16000, "16000 Hz, its mixture 8000 Hz")]
)
def test_recordings_of_an_item_belong_together(run: Path, n: int, rate: int, message: str) -> None:
    write_audio(run / "audio" / "model.flac", np.zeros(n), sample_rate=rate)
    with pytest.raises(InputError, match=message):
        read_kept_audio(run, read_kept(run)[0])
