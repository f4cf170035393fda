"""Hub models are found in the local cache and never downloaded by loading."""

from pathlib import Path

import pytest

from marssep.errors import ModelError
from marssep.model import ModelConfig, build_network, load_model, save_model
from marssep.model.hub import is_hub_id
from marssep.spectral import SpectralSettings

CONFIG = ModelConfig(
    network={"channels": [8, 12], "query_channels": 8},
    spectral=SpectralSettings(n_bands=32),
    encoder="tiny",
    query_dimension=16,
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_a_fetched_model_is_loaded_by_its_id(cache: Path) -> None:
    repository = cache / "models--someone--tiny"
    commit = "0123456789abcdef0123456789abcdef01234567"
    save_model(repository / "snapshots" / commit, build_network(CONFIG), CONFIG, card={"licence": "CC0-1.0"})
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    loaded = load_model("someone/tiny")
    assert loaded.config == CONFIG
    assert loaded.card == {"licence": "CC0-1.0"}


def test_a_model_that_was_not_fetched_is_not_downloaded(cache: Path) -> None:
    with pytest.raises(ModelError, match="marssep models fetch someone/other"):
        load_model("someone/other")


@pytest.mark.parametrize(("name", "expected"), [("a/b", True), ("a", False), ("a/b/c", False), ("/a/b", False)])
def test_hub_ids(name: str, expected: bool) -> None:
    assert is_hub_id(name) is expected
