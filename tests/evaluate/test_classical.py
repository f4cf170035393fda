import sys

import pytest
import torch

from marssep.errors import UsageError
from marssep.evaluate.classical import best_assignment, hpss, nmf
from marssep.metrics import si_sdr_improvement
from marssep.spectral import Spectrogram

pytest.importorskip("librosa")
RATE, N = 16000, 16000
SPECTRAL = Spectrogram()


@pytest.fixture(scope="module")
def tone_and_clicks():
    """What both methods are made for: a note that lasts and clicks that do not."""
    time = torch.arange(N) / RATE
    tone = 0.1 * sum(torch.sin(2 * torch.pi * 300 * k * time) / k for k in (1, 2, 3))
    clicks = torch.zeros(N)
    noise = torch.randn(80, generator=torch.Generator().manual_seed(0))
    for start in range(1000, N, 4000):
        clicks[start : start + 80] = noise
    return torch.stack([tone, clicks])


@pytest.mark.parametrize("separate", [nmf, hpss])
def test_tone_and_clicks_come_apart(separate, tone_and_clicks):
    mixture = tone_and_clicks.sum(0)
    made = separate(mixture, tone_and_clicks, SPECTRAL, RATE)
    assert (si_sdr_improvement(made, tone_and_clicks, mixture=mixture) > 5.0).all()


@pytest.mark.parametrize("separate", [nmf, hpss])
def test_targets_choose_their_parts(separate, tone_and_clicks):
    mixture = tone_and_clicks.sum(0)
    made = separate(mixture, tone_and_clicks, SPECTRAL, RATE)
    swapped = separate(mixture, tone_and_clicks.flip(0), SPECTRAL, RATE)
    assert swapped.equal(made.flip(0))


@pytest.mark.parametrize("separate", [nmf, hpss])
@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_targets_gets_estimates(separate, count, tone_and_clicks):
    hiss = 0.02 * torch.randn(N, generator=torch.Generator().manual_seed(1))
    sources = torch.stack([*tone_and_clicks, hiss])[:count]
    made = separate(tone_and_clicks.sum(0) + hiss, sources, SPECTRAL, RATE)
    assert made.shape == sources.shape
    assert made.isfinite().all()


@pytest.mark.parametrize("separate", [nmf, hpss])
def test_silence_stays_silent(separate):
    made = separate(torch.zeros(N), torch.zeros(2, N), SPECTRAL, RATE)
    assert made.equal(torch.zeros(2, N))


@pytest.mark.parametrize("separate", [nmf, hpss])
def test_the_parts_sum_to_the_mixture(separate, tone_and_clicks):
    mixture = tone_and_clicks.sum(0)
    made = separate(mixture, tone_and_clicks, SPECTRAL, RATE)
    torch.testing.assert_close(made.sum(0), mixture, rtol=0, atol=1e-4)


def test_assignment_looks_at_the_whole_sum():
    assert best_assignment(torch.tensor([[9.0, 8.0], [7.0, 0.0]])) == [1, 0]


def test_two_parts_serve_three_targets_evenly():
    chosen = best_assignment(torch.tensor([[3.0, 2.0, 1.0], [0.0, 0.0, 0.0]]))
    assert sorted(chosen) in ([0, 0, 1], [0, 1, 1])
    assert chosen[0] == 0


def test_a_missing_library_is_named(monkeypatch, tone_and_clicks):
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(UsageError, match=r"marssep\[evaluate\]"):
        nmf(tone_and_clicks.sum(0), tone_and_clicks, SPECTRAL, RATE)
