"""A training run becomes a model with a threshold, a sharpness and a card."""

import dataclasses
from pathlib import Path

import pytest

from marssep.corpus.lists import write_list
from marssep.corpus.made import make_corpus
from marssep.corpus.mixing import MixingSettings, MixtureSampler
from marssep.corpus.store import Corpus
from marssep.errors import ModelError
from marssep.evaluate.card import write_card
from marssep.evaluate.protocol import EvaluateSettings, evaluate
from marssep.evaluate.release import ReleaseSettings, fit_gate, release
from marssep.model import average_models, join_models, load_model, save_model
from marssep.presets import load_preset
from marssep.query.bank import EmbeddingBank
from marssep.query.encoder import load_encoder
from marssep.separate import Separator
from marssep.train.supervised import train_supervised

QUICK = EvaluateSettings(modalities=("text",), baselines=(), bss_mixtures=0, resamples=10)


def test_a_run_is_released(tmp_path: Path) -> None:
    make_corpus(tmp_path / "made")
    corpus, encoder = Corpus.open(tmp_path / "made"), load_encoder("tiny")
    bank = EmbeddingBank.build(corpus, encoder, tmp_path / "bank")
    sampler = MixtureSampler(corpus, split="val", settings=MixingSettings(), duration=1.0)
    listed = tmp_path / "val.jsonl"
    write_list(listed, [sampler.draw(index, n_sources=2) for index in range(4)])
    preset = load_preset("smoke", ["steps=2", f'validation.lists=["{listed}"]', "validation.mixtures=2"])
    train_supervised(preset, corpus=corpus, bank=bank, output=tmp_path / "run", quiet=True)
    crowd = tmp_path / "val-3.jsonl"
    write_list(crowd, [sampler.draw(index, n_sources=3) for index in range(3)])
    settings = ReleaseSettings(lists=(str(listed),), crowded=(str(crowd),), scales=(1.0, 2.0), mixtures=4)
    parts = {"corpus": corpus, "encoder": encoder, "bank": bank, "settings": settings}
    decided = release(tmp_path / "run", tmp_path / "model", **parts)
    assert set(decided.tried) == {"1", "2"}
    assert set(decided.weights_tried) == {"best", "last", "mean"}
    assert decided.weights_tried[decided.weights] == max(decided.weights_tried.values())
    model = load_model(tmp_path / "model")
    assert model.config.presence_threshold == pytest.approx(decided.presence.threshold, abs=1e-4)
    assert decided.presence.n_present == 4 * 2 + 3 * 3
    assert model.card["data"]["recordings"] == 8
    assert model.card["classes"] == ["chirp", "clicks", "noise", "tone"]
    assert model.card["training"]["settings"]["steps"] == 2
    spoilt = model.config.model_copy(
        update={"presence_threshold": 0.123, "quiet_threshold": 0.0123, "presence_bias": 7.0}
    )
    save_model(tmp_path / "spoilt", model.network, spoilt, card=model.card, half=True)
    again = {"corpus": corpus, "settings": settings}
    assert fit_gate(tmp_path / "spoilt", **again) == decided.presence
    mended = load_model(tmp_path / "spoilt")
    fitted, wanted = mended.config.evidence_weights, model.config.evidence_weights
    # A fit to a dozen queries shows what differs in the last bit of the evidence from one pass to the next.
    assert dataclasses.astuple(fitted) == pytest.approx(dataclasses.astuple(wanted), rel=1e-5)
    same = {f"presence_{name}": value for name, value in dataclasses.asdict(wanted).items()}
    assert (mended.sha256, mended.config.model_copy(update=same)) == (model.sha256, model.config)
    save_model(tmp_path / "full", model.network, spoilt, card=model.card)  # weights stay as they were written
    written = (tmp_path / "full" / "model.safetensors").read_bytes()
    assert fit_gate(tmp_path / "full", **again) == decided.presence
    assert (tmp_path / "full" / "model.safetensors").read_bytes() == written
    with pytest.raises(ModelError, match="no record of a release"):
        fit_gate(tmp_path / "run" / "best", **again)
    report = evaluate(Separator.load(tmp_path / "model"), corpus, mixtures=str(listed), settings=QUICK)
    report.results.write(tmp_path / "results.json")
    write_card(tmp_path / "model", [tmp_path / "results.json"])
    readme = (tmp_path / "model" / "README.md").read_text()
    assert "8 recordings" in readme
    assert "CC0-1.0" in readme
    assert set(load_model(tmp_path / "model").card["results"]) == {"val"}
    other = (tmp_path / "results.json").read_text().replace(model.sha256, "0" * 64)
    (tmp_path / "other.json").write_text(other)
    with pytest.raises(ModelError, match="another model"):
        write_card(tmp_path / "model", [tmp_path / "other.json"])
    for name, made in {
        "joined": join_models({"one": model, "two": model}),
        "mean": average_models({"one": model, "two": model}),
    }.items():
        save_model(tmp_path / name, made.network, made.config, card=made.card)
        both = tmp_path / f"{name}-released"
        assert set(release(tmp_path / name, both, **parts).weights_tried) == {name}
        report = evaluate(Separator.load(both), corpus, mixtures=str(listed), settings=QUICK)
        report.results.write(tmp_path / "both.json")
        write_card(both, [tmp_path / "both.json"])
        told = (both / "README.md").read_text()
        assert told.count("8 recordings") == (2 if name == "joined" else 1)
        assert told.count("The same as of 1.") == (0 if name == "joined" else 1)
        assert load_model(both).card["classes"] == model.card["classes"]
    with pytest.raises(ModelError, match=r"data.json: no such file; a model is released from the folder of its"):
        release(tmp_path / "run" / "best", tmp_path / "again", **parts)
    (tmp_path / "run" / "journal.jsonl").unlink()
    with pytest.raises(ModelError, match="training run"):
        release(tmp_path / "run", tmp_path / "again", **parts)
