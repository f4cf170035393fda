"""What an encoder hears in a sound as a whole and in its patches."""

import pytest
import torch

from marssep.errors import UsageError
from marssep.query import load_encoder
from marssep.query.hearing import cut_windows
from marssep.query.weights import is_fetched

RATE = 16000


@pytest.mark.parametrize(("n", "patches"), [(1, 1), (15360, 1), (15361, 2), (23040, 2), (23041, 3), (64000, 8)])
def test_every_sample_lies_in_a_patch(n: int, patches: int) -> None:
    waveform = torch.arange(n, dtype=torch.float32)[None]
    windows = cut_windows(waveform, RATE)
    assert windows.shape == (1, patches, min(n, 15360))
    torch.testing.assert_close(windows.flatten().unique(), waveform[0])


@pytest.mark.parametrize(
    "name", ["tiny", pytest.param("open", marks=pytest.mark.skipif(not is_fetched("open"), reason="not fetched"))]
)
@pytest.mark.parametrize("n", [1, 12345, 3 * RATE])
def test_the_whole_is_what_is_embedded_and_patches_are_places_too(name: str, n: int) -> None:
    encoder = load_encoder(name)
    waveform = torch.randn(2, n, generator=torch.Generator().manual_seed(n))
    waveform[1] *= 0.1
    with torch.inference_mode():
        heard = encoder.hear(waveform, sample_rate=RATE)
        torch.testing.assert_close(heard.whole, encoder.embed_audio(waveform, sample_rate=RATE))
    assert heard.patches.shape[:2] == heard.power.shape
    torch.testing.assert_close(heard.patches.norm(dim=-1), torch.ones(heard.power.shape))


def test_a_loud_patch_has_more_power_than_a_quiet_one() -> None:
    waveform = torch.randn(1, 4 * RATE, generator=torch.Generator().manual_seed(0))
    waveform[:, : 2 * RATE] *= 0.01
    for name in ["tiny", "open"] if is_fetched("open") else ["tiny"]:
        power = load_encoder(name).hear(waveform, sample_rate=RATE).power[0]
        assert power[0] < 0.1 * power[-2]


def test_no_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="n > 0"):
        load_encoder("tiny").hear(torch.zeros(1, 0), sample_rate=RATE)


def test_names_are_embedded_once_for_the_same_heads() -> None:
    encoder = load_encoder("tiny")
    names = ("rain", "birds")
    first = encoder.embed_names(names)
    torch.testing.assert_close(first, encoder.embed_text(names))
    assert encoder.embed_names(names) is first
    assert encoder.embed_names(()).shape == (0, encoder.dimension)
    encoder.fingerprint = "of other heads"
    assert encoder.embed_names(names) is not first
