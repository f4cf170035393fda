"""Heavy libraries come in by one door each."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "marssep"
DOORS = {"ray": {"separate/archive/engine.py"}, "transformers": {"query/pretrained/door.py"}}


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("library", DOORS)
def test_a_library_is_imported_by_its_door_only(library):
    found = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if library in _imports(path)}
    assert found == DOORS[library]
