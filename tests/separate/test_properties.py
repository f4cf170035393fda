"""Laws of the stream: length x chunk x overlap x batch x channels x rate."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marssep import Query, Separator
from marssep.model import LoadedModel, MaskNetwork, MaskOutput, ModelConfig
from marssep.query import load_encoder
from marssep.separate import chunks
from marssep.separate.asked import Asked
from marssep.separate.sources import ArraySource
from marssep.separate.streaming import Stream

RATES = st.sampled_from([1000, 8000, 11025, 22050, 44100, 48000, 96000])
PLACES = {
    "channels": st.integers(1, 6),
    "length": st.integers(1, 40000),
    "rate": RATES,
    "chunk": st.sampled_from([8, 16, 32, 64]),
    "overlap": st.sampled_from([0.0, 0.25, 0.5, 0.75]),
    "batch": st.integers(1, 5),
    "block": st.floats(0.05, 3.0),
}


class _Open(MaskNetwork):
    """Everything is wanted."""

    def forward(self, power, query):
        logits = torch.full((len(power), query.shape[1], *power.shape[1:]), 40.0)
        return MaskOutput(logits, torch.full(query.shape[:2], 9.0))

    def sharpen(self, factor):
        raise NotImplementedError


def _open_separator(chunk):
    config = ModelConfig(encoder="tiny", query_dimension=16, chunk_steps=chunk)
    return Separator(LoadedModel(_Open(n_bands=128, query_dimension=16), config, {}, "open"), load_encoder("tiny"))


@pytest.fixture(scope="module")
def tiny(tiny_model):
    return Separator.load(tiny_model)


def _with_chunk(separator, chunk):
    config = separator.model.config.model_copy(update={"chunk_steps": chunk})
    return Separator(dataclasses.replace(separator.model, config=config), separator.encoder)


def _noise(channels, length, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, length))).astype(np.float32)


def _targets(separator, waveform, rate, *, block=None, queries=("dog",), overlap=0.25, batch=4):
    """Targets by the stream, with its constants set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "OVERLAP", overlap)
        patch.setattr(chunks, "BATCH", batch)
        asked = Asked.of([Query(text=text) for text in queries], separator.encoder)
        source = ArraySource(torch.from_numpy(np.ascontiguousarray(waveform)), rate)
        with Stream(source, separator.model, separator.encoder, asked, block_seconds=block) as stream:
            stream.propose()
            stream.adapt()
            parts = [part.targets for part in stream.render(range(len(queries)))]
            assert stream.length == waveform.shape[1]
            assert stream.masks.n_steps == stream.model.spectral.n_steps(
                stream.model.spectral.n_frames(waveform.shape[1], rate)
            )
    return [torch.cat(pieces, dim=-1).numpy() for pieces in zip(*parts, strict=True)]


@given(**PLACES)
def test_an_open_mask_gives_the_input(channels, length, rate, chunk, overlap, batch, block):
    waveform = _noise(channels, length)
    (target,) = _targets(_open_separator(chunk), waveform, rate, block=block, overlap=overlap, batch=batch)
    np.testing.assert_allclose(target, waveform, atol=2e-6, rtol=0)


@given(**PLACES)
def test_block_and_batch_do_not_matter(tiny, channels, length, rate, chunk, overlap, batch, block):
    separator, waveform = _with_chunk(tiny, chunk), _noise(channels, length)
    (whole,) = _targets(separator, waveform, rate, block=1e4, overlap=overlap)
    (parts,) = _targets(separator, waveform, rate, block=block, overlap=overlap, batch=batch)
    noise = np.abs(whole - parts).max()
    assert noise <= 1e-4 * np.abs(waveform).max()  # 80 dB below


@given(**(PLACES | {"gain": st.floats(1e-3, 1e3)}))
def test_twice_as_loud_in_twice_as_loud_out(tiny, channels, length, rate, chunk, overlap, batch, block, gain):
    separator, waveform = _with_chunk(tiny, chunk), _noise(channels, length)
    (quiet,) = _targets(separator, waveform, rate, block=block, overlap=overlap, batch=batch)
    (loud,) = _targets(separator, np.float32(gain) * waveform, rate, block=block, overlap=overlap, batch=batch)
    np.testing.assert_allclose(loud, gain * quiet, atol=1e-4 * gain, rtol=0)


@given(**PLACES)
def test_channels_swapped_in_channels_swapped_out(tiny, channels, length, rate, chunk, overlap, batch, block):
    separator, waveform = _with_chunk(tiny, chunk), _noise(channels, length)
    order = np.random.default_rng(length).permutation(channels)
    (straight,) = _targets(separator, waveform, rate, block=block, overlap=overlap, batch=batch)
    (swapped,) = _targets(separator, waveform[order], rate, block=block, overlap=overlap, batch=batch)
    np.testing.assert_allclose(swapped, straight[order], atol=1e-5, rtol=0)


@given(**PLACES)
def test_silence_in_silence_out(tiny, channels, length, rate, chunk, overlap, batch, block):
    separator = _with_chunk(tiny, chunk)
    (target,) = _targets(
        separator, np.zeros((channels, length), np.float32), rate, block=block, overlap=overlap, batch=batch
    )
    assert not target.any()


@given(st.integers(1, 30000), RATES, st.integers(2, 6))
def test_queries_together_give_what_each_gives_alone(tiny, length, rate, count):
    waveform, words = _noise(1, length), ("dog", "rain", "bell", "horn", "drum", "bird")[:count]
    together = _targets(tiny, waveform, rate, queries=words)
    for word, target in zip(words, together, strict=True):
        (alone,) = _targets(tiny, waveform, rate, queries=(word,))
        np.testing.assert_allclose(target, alone, atol=1e-5, rtol=0)
