"""Mixtures: reproducible by index, rendered exactly, never two sounds of one family."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marssep.corpus.labels import family_of
from marssep.corpus.lists import LISTS, RECIPES, check_list, draw_list, read_list, write_list
from marssep.corpus.made import make_corpus
from marssep.corpus.mixing import MixingSettings, MixtureSampler, SourceSpec, active_rms, render, render_source
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.errors import CorpusError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("made")
    make_corpus(folder)
    return Corpus.open(folder)


def _sampler(corpus: Corpus, **values: object) -> MixtureSampler:
    return MixtureSampler(corpus, split="train", settings=MixingSettings(**values), duration=1.0, seed=3)


@given(index=st.integers(0, 10_000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mixture_is_decided_by_its_index(corpus: Corpus, index: int) -> None:
    sampler = _sampler(corpus)
    spec = sampler.draw(index)
    assert spec == sampler.draw(index)
    families = [family_of(source.label) for source in spec.sources]
    assert len(set(families)) == len(families)
    assert len(spec.queries) == len(spec.sources)
    if spec.absent:
        assert family_of(spec.absent.label) not in families
    for source, query in zip(spec.sources, spec.queries, strict=True):
        assert query.label == source.label
        assert query.audio != source.item


def test_the_mixture_is_the_sum_of_its_parts(corpus: Corpus) -> None:
    spec = _sampler(corpus, background=1.0).draw(0, n_sources=3)
    rendered = render(spec, corpus)
    assert rendered.sources.shape == (3, CORPUS_RATE)
    np.testing.assert_array_equal(rendered.mixture, rendered.sources.sum(0) + rendered.background)
    assert np.abs(rendered.background).max() > 0


@pytest.mark.parametrize("level_db", [-10.0, 0.0, 10.0])
def test_levels_are_relative_to_active_parts(corpus: Corpus, level_db: float) -> None:
    item = corpus.select(kind="audio", split="train")[0]
    source = SourceSpec(item.id, item.label, start=0.0, delay=0.4, gap=5.0, level_db=level_db)
    waveform = render_source(source, corpus, CORPUS_RATE)
    assert np.abs(waveform[: round(0.39 * CORPUS_RATE)]).max() == 0
    assert 20 * np.log10(active_rms(waveform) / 0.05) == pytest.approx(level_db, abs=0.01)


def test_short_recordings_are_repeated_after_their_gap(corpus: Corpus) -> None:
    item = corpus.select(kind="audio", split="train", label="noise")[0]
    source = SourceSpec(item.id, item.label, start=item.duration - 0.2, delay=0.0, gap=0.3, level_db=0.0)
    waveform = render_source(source, corpus, CORPUS_RATE)
    frames = np.abs(waveform.reshape(10, -1)).max(1) > 0
    assert frames.tolist() == [True, True, False, False, False] * 2


def test_speed_shortens_and_raises(corpus: Corpus) -> None:
    item = corpus.select(kind="audio", split="train", label="tone")[0]
    spectra = []
    for speed in (1.0, 1.25):
        source = SourceSpec(item.id, item.label, start=0.0, delay=0.0, gap=9.0, level_db=0.0, speed=speed)
        spectra.append(np.abs(np.fft.rfft(render_source(source, corpus, CORPUS_RATE))).argmax())
    assert spectra[1] / spectra[0] == pytest.approx(1.25, rel=0.02)


def test_one_family_alone_cannot_be_mixed(tmp_path: Path) -> None:
    make_corpus(tmp_path)
    corpus = Corpus.open(tmp_path)
    corpus.items = [item for item in corpus.items if item.label == "tone"]
    with pytest.raises(CorpusError, match="two families"):
        _sampler(corpus)


def test_lists_survive_writing_and_reading(corpus: Corpus, tmp_path: Path) -> None:
    specs = [_sampler(corpus).draw(index) for index in range(5)]
    write_list(tmp_path / "mine.jsonl", specs)
    assert read_list(tmp_path / "mine.jsonl") == specs
    assert check_list(specs, corpus) == []


def test_a_broken_list_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text('{"id": "0"}\n')
    with pytest.raises(CorpusError, match="line 1"):
        read_list(tmp_path / "broken.jsonl")


@pytest.mark.parametrize("name", RECIPES)
def test_committed_lists_are_whole_and_pure(name: str) -> None:
    recipe, specs = RECIPES[name], read_list(name)
    assert (LISTS / f"{name}.jsonl").is_file()
    assert len(specs) == recipe.n_mixtures
    assert all(len(spec.sources) == len(spec.queries) == recipe.n_sources for spec in specs)
    assert all(spec.absent is not None for spec in specs)


def test_a_list_can_be_drawn_again(corpus: Corpus) -> None:
    assert draw_list("open-val", corpus) == draw_list("open-val", corpus)
