"""Architectures: shapes, the paper's parameter count, gradients, saving and refusing."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from marssep.errors import ModelError, SettingsError
from marssep.model import (
    ARCHITECTURES,
    LoadedModel,
    ModelConfig,
    average_models,
    build_network,
    join_models,
    load_model,
    normalise,
    save_model,
)
from marssep.model.film_unet import FilmUNet
from marssep.spectral import SpectralSettings


def _tiny(architecture: Literal["film_unet", "unet", "ensemble"], **network: Any) -> ModelConfig:
    grid = SpectralSettings(n_bands=32)
    return ModelConfig(
        architecture=architecture, network=network, spectral=grid, encoder="tiny", query_dimension=16, chunk_steps=32
    )


_SMALL = {"channels": [8, 12], "query_channels": 8}
_THREE_LEVELS = {"channels": [8, 12, 16], "query_channels": 8, "maps": 5}
TINY = {
    "film_unet": _tiny("film_unet", **_SMALL),
    "film_unet, shared": _tiny("film_unet", **_THREE_LEVELS, shared=1),
    "film_unet, all shared": _tiny("film_unet", **_THREE_LEVELS, shared=2),
    "unet": _tiny("unet", width=4, n_maps=4, levels=3),
    "ensemble": _tiny("ensemble", members=[_SMALL, {"channels": [4, 8], "query_channels": 4}]),
}


def test_every_architecture_is_tested() -> None:
    assert {config.architecture for config in TINY.values()} == ARCHITECTURES.keys()


def test_sharing_more_levels_than_there_are_is_refused() -> None:
    with pytest.raises(SettingsError, match="shared = 2, but the decoder has 1 levels"):
        build_network(TINY["film_unet"].model_copy(update={"network": {"channels": [8, 12], "shared": 2}}))


def test_a_member_with_more_rows_than_the_grid_is_refused() -> None:
    config = _tiny("ensemble", members=[_SMALL, {**_SMALL, "n_bands": 64}])
    with pytest.raises(SettingsError, match=r"members\[1\].n_bands = 64: more rows than .*n_bands = 32"):
        build_network(config)


@pytest.mark.parametrize("before", [0, 1])
def test_shared_levels_start_as_what_no_query_changes(before: int) -> None:
    torch.manual_seed(0)
    config = TINY["film_unet, all shared"]
    old, new = (build_network(_with_shared(config, shared=shared)).eval() for shared in (before, 2))
    assert isinstance(old, FilmUNet)
    assert isinstance(new, FilmUNet)
    for module in old.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
    random = new.adopt(old)
    assert {name.split(".")[0] for name in random} == {"head", "weights", "presence"}
    hidden, skip = torch.randn(1, 12, 4, 4), torch.randn(1, 8, 8, 8)
    ups = [*old.decoder, *old.common]
    condition = torch.randn(1, 8)
    for module in old.decoder.modules():  # of a query that scales and shifts by the biases alone
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.zeros_(module.weight)
    old_up = ups[-1](hidden, skip, condition if before == 0 else None)
    torch.testing.assert_close(new.common[-1](hidden, skip, None), old_up)


@pytest.mark.parametrize("wrong", [{"shared": 0}, {"shared": 2, "query_channels": 4}])
def test_only_more_shared_levels_can_be_adopted(wrong: dict[str, int]) -> None:
    old = build_network(TINY["film_unet, shared"])
    new = build_network(_with_shared(TINY["film_unet, shared"], **wrong))
    assert isinstance(old, FilmUNet)
    assert isinstance(new, FilmUNet)
    with pytest.raises(ValueError, match="only shared levels may be added"):
        new.adopt(old)


def _with_shared(config: ModelConfig, **changed: int) -> ModelConfig:
    return config.model_copy(update={"network": {**config.network, **changed}})


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("steps", [1, 31, 32, 50])
def test_shapes_for_any_number_of_steps(name: str, steps: int) -> None:
    output = build_network(TINY[name]).eval()(torch.rand(2, 32, steps), torch.randn(2, 3, 16))
    assert output.logits.shape == (2, 3, 32, steps)
    assert output.presence.shape == (2, 3)


@pytest.mark.parametrize("name", TINY)
def test_a_query_does_not_depend_on_its_neighbours(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(TINY[name]).eval()
    power, query = torch.rand(2, 32, 32), torch.randn(2, 3, 16)
    together = network(power, query)
    alone = network(power[1:], query[1:, 2:])
    torch.testing.assert_close(alone.logits[0, 0], together.logits[1, 2], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    network = build_network(TINY[name])
    output = network(torch.rand(2, 32, 32), torch.randn(2, 2, 16))
    (output.logits.square().mean() + output.presence.square().mean()).backward()
    assert [key for key, value in network.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize(
    ("dimension", "noise_masks", "count"), [(1024, 0, 30_307_043), (512, 0, 30_290_659), (512, 2, 30_292_771)]
)
def test_unet_has_the_ancestors_parameter_count(dimension: int, noise_masks: int, count: int) -> None:
    network = {"noise_masks": noise_masks}
    config = ModelConfig(architecture="unet", query_dimension=dimension, network=network)
    with torch.device("meta"):
        network = build_network(config)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_noise_masks_come_of_the_mean_query_and_in_training_alone() -> None:
    network = build_network(TINY["unet"].model_copy(update={"network": {**TINY["unet"].network, "noise_masks": 2}}))
    with torch.no_grad():
        for parameter in network.query.parameters():
            parameter.normal_()
    power, query = torch.rand(1, 32, 32), torch.randn(1, 2, 16)
    noise = network(power, query).noise
    assert noise is not None
    torch.testing.assert_close(network(power, query.flip(1)).noise, noise)
    assert (network(power, 2 * query).noise - noise).abs().max() > 0
    assert network.eval()(power, query).noise is None


def test_level_does_not_matter_after_normalisation() -> None:
    power = torch.rand(3, 8, 10)
    power[:, :, 5:] = 0.0
    torch.testing.assert_close(power * normalise(power), 100.0 * power * normalise(100.0 * power))
    assert float((power * normalise(power))[:, :, :5].mean()) == pytest.approx(1.0, rel=1e-5)
    assert torch.isfinite(normalise(torch.zeros(1, 8, 10))).all()


@pytest.mark.parametrize("name", TINY)
def test_saved_and_loaded_is_the_same(name: str, tmp_path: Path) -> None:
    network = build_network(TINY[name]).eval()
    save_model(tmp_path, network, TINY[name], card={"note": "made in a test"})
    loaded = load_model(tmp_path)
    assert loaded.config == TINY[name]
    assert loaded.card == {"note": "made in a test"}
    power, query = torch.rand(1, 32, 20), torch.randn(1, 1, 16)
    torch.testing.assert_close(loaded.network(power, query).logits, network(power, query).logits, rtol=0, atol=1e-6)
    assert not list(tmp_path.glob("*.partial"))


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path, build_network(TINY["unet"]), TINY["unet"], card={})
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"model\.safetensors.*truncated"):
        load_model(tmp_path)


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path, build_network(TINY["unet"]), TINY["unet"], card={})
    config = json.loads((tmp_path / "config.json").read_text())
    config["network"]["width"] = 8
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="do not fit"):
        load_model(tmp_path)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="pickle"):
        load_model(path)


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, build_network(TINY["unet"]), TINY["unet"], card={})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architecture": "os.system"}))
    with pytest.raises(SettingsError, match="architecture"):
        load_model(tmp_path)


def test_an_unknown_name_lists_the_shipped_models() -> None:
    with pytest.raises(ModelError, match="no such model"):
        load_model("no-such-model")


def test_bands_must_fit_the_levels() -> None:
    with pytest.raises(SettingsError, match="n_bands"):
        build_network(ModelConfig(spectral=SpectralSettings(n_bands=100)))


@pytest.mark.parametrize("name", TINY)
def test_sharpening_multiplies_the_logits(name: str) -> None:
    network = build_network(TINY[name]).eval()
    power, query = torch.rand(1, 32, 20), torch.randn(1, 2, 16)
    before = network(power, query).logits
    network.sharpen(1.5)
    torch.testing.assert_close(network(power, query).logits, 1.5 * before)


def test_a_joined_model_gives_the_mean_of_its_members(tmp_path: Path) -> None:
    models = {}
    for name, size in (("small", 8), ("large", 12)):
        config = TINY["film_unet"].model_copy(update={"network": {"channels": [size, 12], "query_channels": 8}})
        torch.manual_seed(size)
        save_model(tmp_path / name, build_network(config), config, card={"training": {"steps": size}})
        models[name] = load_model(tmp_path / name)
    joined = join_models(models)
    power, query = torch.rand(2, 32, 40), torch.randn(2, 3, 16)
    output = joined.network(power, query)
    each = [model.network(power, query) for model in models.values()]
    torch.testing.assert_close(output.logits, (each[0].logits + each[1].logits) / 2)
    torch.testing.assert_close(output.presence, (each[0].presence + each[1].presence) / 2)
    save_model(tmp_path / "joined", joined.network, joined.config, card=joined.card)
    again = load_model(tmp_path / "joined")
    assert [member["training"]["steps"] for member in again.card["members"].values()] == [8, 12]
    three = join_models({"joined": again, "small": models["small"]})
    assert [member["sha256"] for member in three.card["members"].values()] == [
        models["small"].sha256,
        models["large"].sha256,
        models["small"].sha256,
    ]
    mean = (2 * each[0].logits + each[1].logits) / 3
    torch.testing.assert_close(three.network(power, query).logits, mean)


def test_only_models_that_fit_are_joined(tmp_path: Path) -> None:
    for name in ("film_unet", "unet"):
        save_model(tmp_path / name, build_network(TINY[name]), TINY[name], card={})
    longer = TINY["film_unet"].model_copy(update={"chunk_steps": 64})
    save_model(tmp_path / "longer", build_network(longer), longer, card={})
    models = {name: load_model(tmp_path / name) for name in ("film_unet", "unet", "longer")}
    for others, sentence in (((), "at least two"), (("unet",), "'unet'"), (("longer",), "chunk_steps")):
        with pytest.raises(ModelError, match=sentence):
            join_models({name: models[name] for name in ("film_unet", *others)})


def test_a_mean_of_weights_is_that_and_knows_whose(tmp_path: Path) -> None:
    models = {}
    for seed in (0, 1, 2):
        torch.manual_seed(seed)
        card = {"training": {"steps": seed}, "classes": ["dog", str(seed)]}
        save_model(tmp_path / str(seed), build_network(TINY["film_unet"]), TINY["film_unet"], card=card)
        models[str(seed)] = load_model(tmp_path / str(seed))
    mean = average_models(models)
    states = [model.network.state_dict() for model in models.values()]
    for key, value in mean.network.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, torch.stack([state[key] for state in states]).mean(0))
    assert mean.card["classes"] == ["0", "1", "2", "dog"]
    joined = join_models({"mean": mean, "0": models["0"]})
    assert [part["sha256"] for part in joined.card["members"]["1"]["averaged"].values()] == [
        model.sha256 for model in models.values()
    ]


@pytest.mark.parametrize(("other", "sentence"), [(None, "at least two"), ("unet", "architecture"), ("wide", "network")])
def test_only_models_of_one_shape_have_a_mean(other: str | None, sentence: str) -> None:
    wide = TINY["film_unet"].model_copy(update={"network": {"channels": [12, 12], "query_channels": 8}})
    config = {"film_unet": TINY["film_unet"], "unet": TINY["unet"], "wide": wide}
    names = ["film_unet", *([other] if other else [])]
    with pytest.raises(ModelError, match=sentence):
        average_models({name: LoadedModel(build_network(config[name]), config[name], {}, "") for name in names})


def test_half_precision_halves_the_file_and_hardly_moves_the_logits(tmp_path: Path) -> None:
    config = TINY["film_unet"]
    torch.manual_seed(0)
    network = build_network(config).eval()
    for half in (False, True):
        save_model(tmp_path / str(half), network, config, card={}, half=half)
    sizes = [(tmp_path / str(half) / "model.safetensors").stat().st_size for half in (False, True)]
    assert sizes[1] < 0.8 * sizes[0]
    power, query = torch.rand(2, 32, 40), torch.randn(2, 3, 16)
    loaded = load_model(tmp_path / "True").network
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    wanted, given = network(power, query).logits, loaded(power, query).logits
    assert (given - wanted).norm() < 2e-3 * wanted.norm()


def test_a_member_of_fewer_rows_hears_what_its_own_grid_would_give(tmp_path: Path) -> None:
    models = {}
    for name, rows in (("coarse", 32), ("fine", 64)):
        config = TINY["film_unet"].model_copy(update={"spectral": SpectralSettings(n_bands=rows)})
        torch.manual_seed(rows)
        save_model(tmp_path / name, build_network(config), config, card={})
        models[name] = load_model(tmp_path / name)
    joined = join_models(models)
    assert joined.config.spectral.n_bands == 64
    torch.manual_seed(0)
    spectrum = joined.spectral.stft(torch.randn(1, 64000), 32000)
    fine, coarse = (model.spectral.to_grid(spectrum, 32000) for model in (models["fine"], models["coarse"]))
    member = joined.network.members[0]
    level_db = 10 * torch.log10((member.pooling @ fine) / coarse)
    assert level_db.abs().mean() < 0.2
    query = torch.randn(1, 2, 16)
    own, given = models["coarse"].network(coarse, query).logits, member(fine, query).logits
    # between two rows as a mask is read between them, and its first and last rows as they are
    torch.testing.assert_close(given[:, :, [0, -1]], own[:, :, [0, -1]], atol=0.05, rtol=0.05)
    both = joined.network(fine, query).logits
    torch.testing.assert_close(both, (given + models["fine"].network(fine, query).logits) / 2)
