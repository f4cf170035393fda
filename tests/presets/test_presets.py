"""Presets and overrides."""

from pathlib import Path

import pytest

from marssep.errors import SettingsError
from marssep.presets import load_preset, preset_names
from marssep.train.progressive_settings import ProgressiveSettings


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid(name: str) -> None:
    assert load_preset(name).steps > 0


def test_overrides_reach_nested_values() -> None:
    settings = load_preset("default", ["optimiser.learning_rate=1e-4", "model.network.blocks=2", "precision=no"])
    assert settings.optimiser.learning_rate == 1e-4
    assert settings.model.network == {"blocks": 2}
    assert settings.precision == "no"


def test_an_override_leaves_the_rest_of_its_group_alone() -> None:
    default, changed = (
        load_preset("reinforce", overrides).optimiser for overrides in ([], ["optimiser.clip_norm=2.0"])
    )
    assert changed == default.model_copy(update={"clip_norm": 2.0})
    stage = ProgressiveSettings.parse({"stage3": {"triplet": 0.3}}, source="here").stage3
    assert stage == ProgressiveSettings().stage3.model_copy(update={"triplet": 0.3})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.learning_rat=1e-4", "did you mean 'learning_rate'"),
        ("stepps=3", "did you mean 'steps'"),
        ("steps=many", "steps"),
        ("steps", "key.subkey=value"),
        ("steps.more=1", "single value"),
    ],
)
def test_a_wrong_override_is_explained(override: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_preset("default", [override])


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean 'smoke'"):
        load_preset("smoek")


def test_a_file_builds_on_a_base(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "smoke"\nsteps = 7\n[optimiser]\nclip_norm = 0.5\n')
    settings = load_preset(str(path))
    assert (settings.steps, settings.optimiser.clip_norm, settings.optimiser.warmup_steps) == (7, 0.5, 5)


def test_the_paper_preset_is_the_paper() -> None:
    settings = load_preset("paper")
    spectral = settings.model.spectral
    assert round(spectral.window_seconds * 16000) == 1024
    assert round(spectral.hop_seconds * 16000) == 256
    assert (settings.model.chunk_steps - 1) * 256 + 255 == 65535
    assert (settings.batch_size, settings.optimiser.name, settings.optimiser.learning_rate) == (128, "adam", 1e-3)
    assert settings.loss.mask == "binary"
