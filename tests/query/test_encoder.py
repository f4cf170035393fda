import numpy as np
import pytest
import torch
from PIL import Image

from marssep.errors import ModelError, UsageError
from marssep.query import ENCODERS, load_encoder, load_heads, new_encoder, save_heads
from marssep.query.weights import SOURCES, is_fetched

TEXTS = ["dog barking", "a", "Eine Geige spielt, während es regnet ☂ " * 30]
LENGTHS = [1, 7, 400, 15_600, 48_001]


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=["open", "tiny", "clap", "clap-fused", "clip", "siglip", "pe-a", "clap+clip"])
def encoder(request):
    if request.param in SOURCES and not is_fetched(request.param):
        pytest.skip("weights are not fetched")
    if request.param in ENCODERS:
        return load_encoder(request.param)
    return new_encoder(request.getfixturevalue("made_models").specifications[request.param])


@pytest.fixture
def hearing(encoder):
    if "audio" not in encoder.modalities:
        pytest.skip("takes no sounds")
    return encoder


@pytest.fixture
def seeing(encoder):
    if "image" not in encoder.modalities:
        pytest.skip("takes no pictures")
    return encoder


def pictures():
    colours = np.random.default_rng(0).integers(0, 255, (40, 60, 4), dtype=np.uint8)
    picture = Image.fromarray(colours)
    return [picture, picture.convert("L"), picture.convert("P"), Image.new("RGB", (1, 1)), Image.new("1", (3, 700))]


def check_unit(embeddings, n, encoder):
    assert embeddings.shape == (n, encoder.dimension)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(n))


def test_texts_have_unit_length_whatever_their_company(encoder):
    together = encoder.embed_text(TEXTS)
    check_unit(together, len(TEXTS), encoder)
    alone = torch.cat([encoder.embed_text([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=0)


def test_pictures_of_any_mode_and_size(seeing):
    images = pictures()
    together = seeing.embed_image(images)
    check_unit(together, len(images), seeing)
    alone = torch.cat([seeing.embed_image([image]) for image in images])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=0)


def test_transparent_is_white(seeing):
    clear, white = Image.new("RGBA", (30, 30), (200, 0, 0, 0)), Image.new("RGB", (30, 30), "white")
    torch.testing.assert_close(seeing.embed_image([clear]), seeing.embed_image([white]))


@pytest.mark.parametrize("length", LENGTHS)
def test_sounds_of_any_length_are_repeatable(hearing, length):
    waveform = noise(2, length)
    embeddings = hearing.embed_audio(waveform, sample_rate=16_000)
    check_unit(embeddings, 2, hearing)
    assert torch.equal(embeddings, hearing.embed_audio(waveform.clone(), sample_rate=16_000))
    alone = torch.cat([hearing.embed_audio(row[None], sample_rate=16_000) for row in waveform])
    torch.testing.assert_close(embeddings, alone, atol=2e-5, rtol=0)


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 44_101, 192_000])
def test_sounds_of_any_rate(hearing, sample_rate):
    check_unit(hearing.embed_audio(noise(1, 9_000), sample_rate=sample_rate), 1, hearing)


def test_gradient_reaches_the_waveform(hearing):
    waveform = noise(2, 20_000).requires_grad_()
    embeddings = hearing.embed_audio(waveform, sample_rate=32_000)
    (embeddings[0] @ embeddings[1].detach()).backward()
    assert waveform.grad.isfinite().all()
    assert waveform.grad[0].abs().max() > 0
    assert all(parameter.grad is None for parameter in hearing.parameters())


def test_silence_has_a_place_and_a_finite_gradient(hearing):
    waveform = torch.zeros(1, 20_000, requires_grad=True)
    embeddings = hearing.embed_audio(waveform, sample_rate=16_000)
    check_unit(embeddings, 1, hearing)
    embeddings.sum().backward()
    assert waveform.grad.isfinite().all()


def test_stays_in_evaluation_mode(encoder):
    torch.nn.Sequential(encoder).train()
    assert not any(module.training for module in encoder.modules())


def test_crops_are_embedded_like_the_parts(hearing):
    waveform = noise(64_000)
    crops = hearing.audio_crops(waveform, 16_000, [(0.0, 1.0), (0.5, 1.0), (0.999, 1.0)])
    assert crops.shape[0] == 3
    torch.testing.assert_close(crops[:1], hearing.audio_features(waveform[None], 16_000))


@pytest.mark.parametrize("shape", [(100,), (1, 0), (1, 2, 100)])
def test_refuses_what_is_no_batch_of_waveforms(hearing, shape):
    with pytest.raises((UsageError, TypeError)):  # the shape checks of the tests are quicker than ours
        hearing.embed_audio(torch.zeros(*shape), sample_rate=16_000)


def test_heads_survive_saving(encoder, tmp_path):
    before = encoder.fingerprint
    copy = new_encoder(encoder.name)
    copy.heads.load_state_dict(encoder.heads.state_dict())
    save_heads(copy, tmp_path / "heads.safetensors")
    torch.testing.assert_close(copy.embed_text(TEXTS), encoder.embed_text(TEXTS), atol=2e-3, rtol=0)
    assert load_encoder(encoder.name, heads=tmp_path / "heads.safetensors").fingerprint == copy.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["heads.safetensors"]
    assert encoder.fingerprint == before


def test_damaged_or_foreign_heads_are_refused(tmp_path):
    encoder = load_encoder("tiny")
    path = tmp_path / "heads.safetensors"
    save_heads(encoder, path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelError, match="no heads of the encoder 'tiny'"):
        load_heads(encoder, path)
    with pytest.raises(ModelError, match="cannot be read"):
        load_heads(encoder, tmp_path / "missing.safetensors")


def test_unknown_encoder_is_named():
    with pytest.raises(UsageError, match=r"'clap'.*open, tiny, transformers, imagebind"):
        load_encoder("clap")


def test_missing_weights_say_what_to_run(monkeypatch, tmp_path):
    monkeypatch.setenv("MARSSEP_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="marssep models fetch open"):
        load_encoder("open")
    assert list(tmp_path.iterdir()) == []
