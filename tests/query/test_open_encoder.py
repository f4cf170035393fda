import pytest
import torch

from marssep.query import load_encoder
from marssep.query.weights import is_fetched

pytestmark = pytest.mark.skipif(not is_fetched("open"), reason="weights are not fetched")


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("open")


def test_a_quiet_query_means_the_same_as_a_loud_one(encoder):
    waveform = 0.3 * torch.randn(1, 30_000, generator=torch.Generator().manual_seed(0))
    loud, quiet = (encoder.embed_audio(gain * waveform, sample_rate=16_000) for gain in (1.0, 0.01))
    torch.testing.assert_close(loud, quiet, atol=1e-4, rtol=0)


def test_synonyms_are_neighbours(encoder):
    names = ["dog barking", "a puppy woofs", "violin", "a fiddle is played", "rain", "drizzle on a roof"]
    near = encoder.embed_text(names) @ encoder.embed_text(names).T
    near.fill_diagonal_(-1)
    assert near.argmax(1).tolist() == [1, 0, 3, 2, 5, 4]


def test_vocabulary_is_that_of_the_trunks_classifiers(encoder):
    words = encoder.vocabulary()
    assert len(words) == 521 + 1000
    assert words[0] == "Speech"
    assert words[521] == "tench, Tinca tinca"


def test_a_long_recording_equals_its_chunks(encoder):
    waveform = torch.randn(1, 16_000 * 40, generator=torch.Generator().manual_seed(0))
    chunked = encoder.audio_features(waveform, 16_000)
    whole = encoder.audio_features(waveform.clone().requires_grad_(), 16_000)
    torch.testing.assert_close(chunked, whole.detach(), atol=1e-4, rtol=0)


def test_stock_heads_put_names_of_classes_where_words_are(encoder):
    heads = encoder.stock_heads()
    dog, siren = encoder.text_features(["Bark", "Siren"])
    placed = heads["text"](torch.stack([dog, siren]))
    torch.testing.assert_close(placed.norm(dim=1), torch.ones(2))
    features = torch.zeros(1, 1024)
    # the network's own features of a class: the direction its classifier looks for
    number = encoder.vocabulary().index("Siren")
    features[0] = 3 * encoder.audio_trunk.classifier.weight[number].clamp_min(0)
    near = (heads["audio"](features) @ placed.T)[0]
    assert near[1] > near[0]
    assert heads["image"](torch.zeros(1, 6680)).norm().item() == pytest.approx(1)
    assert all(not list(head.parameters()) for head in heads.values())
