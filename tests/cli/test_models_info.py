"""`marssep models info`: the separator alone is counted, and the card is shown."""

import json

from marssep.model import load_model


def test_tells_size_rates_classes_and_licences(marssep, tiny_model):
    ran = marssep("models", "info", tiny_model, "--json")
    assert ran.code == 0
    facts = json.loads(ran.out)
    loaded = load_model(tiny_model)
    assert facts["parameters"] == sum(parameter.numel() for parameter in loaded.network.parameters())
    assert facts["classes"] == ["dog", "rain"]
    assert facts["licences"] == {"made here": "CC0-1.0"}
    assert facts["sha256"] == loaded.sha256
    assert "any" in facts["sample_rates"]


def test_the_same_for_people(marssep, tiny_model):
    ran = marssep("models", "info", tiny_model)
    assert ran.code == 0
    assert "dog, rain" in ran.out
    assert "film_unet" in ran.out


def test_a_preset_is_described_without_weights(marssep):
    facts = json.loads(marssep("models", "info", "--preset", "paper", "--json").out)
    assert facts["architecture"] == "unet"
    assert facts["parameters"] > 30_000_000


def test_a_model_and_a_preset_contradict(marssep, tiny_model):
    ran = marssep("models", "info", tiny_model, "--preset", "paper")
    assert ran.code == 2
    assert "not both" in ran.err
