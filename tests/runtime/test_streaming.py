"""The way through an exported model piece by piece: pieces do not show, chunks are those of torch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marssep.errors import InputError
from marssep.model import MaskNetwork, MaskOutput
from marssep.runtime import RuntimeConfig
from marssep.runtime.chunks import Listener
from marssep.runtime.streaming import Source, Stream, Stretches
from marssep.separate import chunks as torch_chunks
from marssep.spectral import SpectralSettings

_QUERY = np.ones((1, 3), np.float32)


def _config(chunk_steps=16):
    presence = {"bias": 0.0, "network": 1.0, "match": 0.0, "spread": 0.0, "rival": 0.0}
    reading = {"kept": 3, "bias": -1.0, "network": 1.0, "match": 4.0}
    presence |= {"threshold": 0.5, "quiet_threshold": 0.1, "quiet_db": 15.0}
    given = {
        "model": "tiny",
        "model_sha256": "0",
        "spectral": SpectralSettings(n_bands=16),
        "band_frequencies": (1.0,) * 16,
        "chunk_steps": chunk_steps,
        "overlap": torch_chunks.OVERLAP,
        "others": torch_chunks.OTHERS,
        "quiet": torch_chunks.QUIET,
        "presence": presence | {"absent_attenuation_db": 40.0},
        "reading": reading,
        "query_dimension": 3,
        "windows": 2,
        "loud": 0.01,
        "kin": 0.5,
        "encoder": "tiny",
        "files": {},
    }
    return RuntimeConfig.model_validate(given)


def _network(power, query):
    """Something that depends on where in its chunk a cell lies."""
    weight = np.linspace(-2.0, 2.0, power.shape[-1], dtype=np.float32)
    return (np.log(power + 1e-3) * weight)[:, None], power.max((1, 2))[:, None]


class _TorchNetwork(MaskNetwork):
    def forward(self, power, query):
        logits, presence = _network(power.numpy(), None)
        return MaskOutput(torch.from_numpy(logits), torch.from_numpy(presence))

    def sharpen(self, factor):
        raise NotImplementedError


def _split(array, cuts):
    return np.split(array, sorted(min(cut, array.shape[1]) for cut in cuts), axis=1)


@given(st.integers(1, 300), st.integers(1, 60), st.lists(st.integers(0, 300), max_size=6), st.integers(0, 5))
def test_the_mask_is_that_of_torch_however_the_columns_come(n_steps, chunk_steps, cuts, seed):
    power = np.random.default_rng(seed).random((16, n_steps)).astype(np.float32) ** 4
    power[:, : n_steps // 3] *= 1e-8  # too quiet to have a say
    listener = Listener(_network, _QUERY, _config(chunk_steps))
    made = [listener.push(piece) for piece in _split(power, cuts)]
    mask = np.concatenate([*made, listener.finish()], axis=1)
    query = torch.from_numpy(_QUERY)
    wanted = torch_chunks.propose(
        _TorchNetwork(n_bands=16, query_dimension=3), torch.from_numpy(power), query, chunk_steps=chunk_steps
    )
    np.testing.assert_allclose(mask, wanted.mask, atol=1e-5)
    assert listener.presence == pytest.approx(wanted.presence)


@given(st.integers(1, 3000), st.integers(1, 700), st.lists(st.integers(0, 3000), max_size=6))
def test_the_loudest_stretches_lie_side_by_side(length, size, cuts):
    waveform = np.random.default_rng(length).standard_normal((2, length)).astype(np.float32)
    made = Stretches(size, most=3)
    for piece in _split(waveform, cuts):
        made.push(piece)
    made.finish()
    starts = [max(0, min(start, length - size)) for start in range(0, length, size)]
    stretches = [waveform.mean(0)[start : start + size] for start in starts]
    wanted = sorted(stretches, key=lambda stretch: -float(np.square(stretch).mean()))[:3]
    for ours, theirs in zip(made.found(), wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("length", [1, 900, 50000, 160001])
def test_pieces_do_not_show(monkeypatch, length):
    waveform = (0.1 * np.random.default_rng(0).standard_normal((2, length))).astype(np.float32)
    whole = _separated(lambda: [waveform])
    monkeypatch.setattr("marssep.spectral.spool._MOST_IN_MEMORY", 1000)
    pieces = _separated(lambda: np.array_split(waveform, -(-length // 777), axis=1))
    np.testing.assert_array_equal(pieces[0], whole[0])
    assert pieces[1:] == whole[1:]


def _separated(pieces):
    config = _config()
    with Stream(Source("in.wav", 8000, pieces), config) as stream:
        logit = stream.propose(_network, _QUERY)
        target = np.concatenate([made for made, _ in stream.render()], axis=1)
        return target, logit, stream.levels.loudest_db(seconds=2.0, quiet=1e-6), len(stream.loudest.found())


@given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 9), st.integers(0, 5))
def test_what_is_heard_of_many_sounds_is_that_of_torch(n_steps, chunk_steps, n_places, seed):
    rng = np.random.default_rng(seed)
    power = rng.random((16, n_steps)).astype(np.float32) ** 4
    places = rng.standard_normal((n_places, 3)).astype(np.float32)
    listener = Listener(_many, places, _config(chunk_steps))
    listener.push(power)
    listener.finish()
    wanted = torch_chunks.hear(
        _TorchMany(n_bands=16, query_dimension=3), torch.from_numpy(power), torch.from_numpy(places),
        chunk_steps=chunk_steps,
    )  # fmt: skip
    np.testing.assert_allclose(listener.logits, wanted.presence, atol=1e-5)


def _many(power, query):
    """Several sounds, each of which is heard where a chunk's level suits it."""
    presence = power.max((1, 2))[:, None] * query[..., 0] + query[..., 1]
    return np.repeat(power[:, None], query.shape[1], axis=1), presence


class _TorchMany(_TorchNetwork):
    def forward(self, power, query):
        return MaskOutput(*map(torch.from_numpy, _many(power.numpy(), query.numpy())))


def test_what_is_heard_does_not_depend_on_the_pieces():
    waveform = (0.1 * np.random.default_rng(0).standard_normal((2, 50000))).astype(np.float32)
    places = np.eye(3, dtype=np.float32)
    made = []
    for pieces in ([waveform], np.array_split(waveform, 70, axis=1)):
        with Stream(Source("in.wav", 8000, lambda pieces=pieces: pieces), _config()) as stream:
            made.append(stream.hear(_many, places))
    np.testing.assert_array_equal(made[1][0], made[0][0])
    assert len(made[0][1]) == 2
    for ours, theirs in zip(made[1][1], made[0][1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_recording_that_changes_or_holds_nothing_is_refused():
    grows = iter([10, 20])
    source = Source("in.wav", 8000, lambda: [np.ones((1, 100 * next(grows)), np.float32)])
    with Stream(source, _config()) as stream:
        stream.propose(_network, _QUERY)
        with pytest.raises(InputError, match=r"changed while it was read \(1000 samples, then 2000\)"):
            list(stream.render())
    for way in (Stream.propose, Stream.hear):
        with Stream(Source("in.wav", 8000, list), _config()) as stream, pytest.raises(InputError, match="empty"):
            way(stream, _network, _QUERY)
