import json

import pytest

from marssep.corpus.manifest import read_manifest, write_manifest
from marssep.errors import CorpusError


def test_items_survive_writing_and_reading_sorted_by_id(mini, tmp_path):
    items = read_manifest(mini / "manifest.jsonl")
    write_manifest(tmp_path / "again.jsonl", reversed(items))
    assert read_manifest(tmp_path / "again.jsonl") == items == sorted(items, key=lambda item: item.id)
    assert (tmp_path / "again.jsonl").read_bytes() == (mini / "manifest.jsonl").read_bytes()


def test_a_missing_manifest_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(CorpusError, match="marssep data build"):
        read_manifest(tmp_path / "manifest.jsonl")


@pytest.mark.parametrize(
    ("line", "reason"),
    [("{not json", "line 2: not a JSON line"), ("{}", "line 2: missing fields"), ('{"colour": 1}', "'colour'")],
)
def test_a_broken_line_is_named(mini, line, reason):
    path = mini / "manifest.jsonl"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0], line, *rows[1:]]))
    with pytest.raises(CorpusError, match=reason):
        read_manifest(path)


def test_blank_lines_are_skipped(mini):
    path = mini / "manifest.jsonl"
    count = len(read_manifest(path))
    path.write_text(path.read_text().replace("\n", "\n\n"))
    assert len(read_manifest(path)) == count
    assert json.loads(path.read_text().splitlines()[0])["licence"] == "CC0-1.0"
