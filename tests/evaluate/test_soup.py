"""A greedy soup takes what makes the mean better, and nothing else."""

import dataclasses

import pytest
import torch

from marssep.corpus.lists import write_list
from marssep.corpus.made import make_corpus
from marssep.corpus.mixing import MixingSettings, MixtureSampler
from marssep.corpus.store import Corpus
from marssep.errors import ModelError
from marssep.evaluate.soup import SoupSettings, greedy_soup, ingredients, validation_score
from marssep.model import load_model, save_model
from marssep.presets import load_preset
from marssep.query.bank import EmbeddingBank
from marssep.query.encoder import load_encoder
from marssep.train.supervised import train_supervised


def _weight(model):
    return next(iter(model.network.parameters()))


def _like(model, value):
    """The same network with one weight that says how good it is."""
    made = dataclasses.replace(model, network=type(model.network)(
        model.network.settings, spectral=model.config.spectral, query_dimension=model.config.query_dimension
    ))  # fmt: skip
    made.network.load_state_dict(model.network.state_dict())
    with torch.no_grad():
        _weight(made).fill_(value)
    return made


def _distance(model):
    """Best at 1."""
    return -abs(float(_weight(model).detach().mean()) - 1.0)


def test_what_makes_the_mean_better_is_taken(tiny_model):
    model = load_model(tiny_model)
    models = {name: _like(model, value) for name, value in {"far": 4.0, "near": 1.25, "below": 0.5}.items()}
    lines = []
    made = greedy_soup(models, _distance, report=lines.append)
    assert made.taken == ("near", "below")
    assert made.figure == pytest.approx(-0.125)
    assert float(_weight(made.model).detach().mean()) == pytest.approx(0.875)
    assert made.alone == pytest.approx({"far": -3.0, "near": -0.25, "below": -0.5})
    assert len(lines) == 5
    assert lines[-2:] == ["and below: -0.125 dB, taken", "and far: -0.917 dB"]
    assert made.model.card["soup"]["taken"] == 2
    assert len(made.model.card["averaged"]) == 2


def test_without_any_gain_nothing_is_made(tiny_model):
    model = load_model(tiny_model)
    models = {name: _like(model, value) for name, value in {"best": 1.0, "other": 2.0}.items()}
    with pytest.raises(ModelError, match="best: its mean with any other one is no better"):
        greedy_soup(models, _distance, report=lambda line: None)


def test_a_run_gives_all_that_it_kept_once(tmp_path):
    make_corpus(tmp_path / "made")
    corpus, encoder = Corpus.open(tmp_path / "made"), load_encoder("tiny")
    bank = EmbeddingBank.build(corpus, encoder, tmp_path / "bank")
    sampler = MixtureSampler(corpus, split="val", settings=MixingSettings(), duration=1.0)
    listed = tmp_path / "val.jsonl"
    write_list(listed, [sampler.draw(index, n_sources=2) for index in range(2)])
    watched = [f'validation.lists=["{listed}"]', "validation.mixtures=2", "validation.every_steps=1"]
    preset = load_preset("smoke", ["steps=3", *watched, "validation.keep=true"])
    train_supervised(preset, corpus=corpus, bank=bank, output=tmp_path / "run", quiet=True)
    kept = sorted(path.name for path in (tmp_path / "run").glob("at-*"))
    assert kept == ["at-000001", "at-000002", "at-000003"]
    found = ingredients([str(tmp_path / "run")])
    assert len(found) == 3  # the best and the last are among them
    assert all(model.card["data"]["recordings"] == 8 for model in found.values())
    score = validation_score(next(iter(found.values())), corpus, bank, SoupSettings(lists=(str(listed),), mixtures=2))
    figures = {name: score(model) for name, model in found.items()}
    best = max(figures, key=figures.get)
    assert figures[best] == max(figures.values())
    save_model(tmp_path / "alone", found[best].network, found[best].config, card={})
    assert ingredients([str(tmp_path / "alone")]).keys() == {str(tmp_path / "alone")}
