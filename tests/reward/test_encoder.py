import json

import pytest
import torch
from PIL import Image

from marssep.errors import InputError, ModelError, UsageError
from marssep.query import load_encoder
from marssep.query.heads import MixtureHead
from marssep.query.weights import is_fetched
from marssep.reward.encoder import SHIPPED, RewardEncoder
from marssep.reward.heads import AdaptedHead, DetailHead, starting_head

RATE = 16000


@pytest.mark.parametrize("length", [1, 100, 511, 16000, 40001])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_any_length_and_rate_gives_the_same_unit_embedding_every_time(reward_encoder, length, rate):
    waves = 0.1 * torch.randn(2, length, generator=torch.Generator().manual_seed(1))
    made = reward_encoder.embed_audio(waves, rate)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made.norm(dim=1), torch.ones(2))
    assert torch.equal(made, reward_encoder.embed_audio(waves.clone(), rate))
    alone = reward_encoder.embed_audio(waves[:1], rate)
    torch.testing.assert_close(alone, made[:1], atol=1e-5, rtol=0)


def test_gradient_reaches_the_waveform_and_nothing_else(reward_encoder, waves):
    waves = waves.requires_grad_()
    anchor = reward_encoder.embed_audio(waves.detach().flip(0), RATE)
    (reward_encoder.embed_audio(waves, RATE) * anchor).sum().backward()
    assert bool(waves.grad.isfinite().all())
    assert bool((waves.grad.abs().amax(1) > 0).all())
    assert all(parameter.grad is None for parameter in reward_encoder.parameters())


def test_the_gradient_is_the_slope(reward_encoder):
    wave = 0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(3))
    wanted = reward_encoder.embed_audio(wave.flip(1), RATE)
    step = 0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(4))
    moved = wave.clone().requires_grad_()
    (reward_encoder.embed_audio(moved, RATE) * wanted).sum().backward()
    sides = [(reward_encoder.embed_audio(wave + e * step, RATE) * wanted).sum() for e in (1e-2, -1e-2)]
    slope = ((sides[0] - sides[1]) / 2e-2).item()
    assert (moved.grad * step).sum().item() == pytest.approx(slope, rel=0.05)


def test_silence_is_like_nothing_and_has_a_finite_slope(reward_encoder, waves):
    silence = torch.zeros(1, RATE, requires_grad=True)
    made = reward_encoder.embed_audio(silence, RATE)
    assert made.abs().max() == 0
    (made * reward_encoder.embed_audio(waves[:1], RATE)).sum().backward()
    assert bool(silence.grad.isfinite().all())


def test_level_plays_no_part(reward_encoder, waves):
    # the tiny encoder hears the level, so only the second part is asked
    part = reward_encoder.encoder.dimension
    loud, quiet = (reward_encoder.embed_audio(gain * waves, RATE)[:, part:] for gain in (1.0, 0.01))
    torch.testing.assert_close(loud, quiet, atol=1e-4, rtol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(reward_encoder, waves, bad):
    waves[1, 7] = bad
    with pytest.raises(InputError, match="NaN or infinite"):
        reward_encoder.embed_audio(waves, RATE)


def test_no_samples_or_no_rate_is_refused(reward_encoder, waves):
    with pytest.raises(UsageError, match="samples"):
        reward_encoder.embed_audio(waves[:, :0], RATE)
    with pytest.raises(UsageError, match="1 Hz"):
        reward_encoder.embed_audio(waves, 0)


def test_cosines_are_those_of_the_parts(reward_encoder, waves):
    share, part = reward_encoder.share().item(), reward_encoder.encoder.dimension
    made = reward_encoder.embed_audio(waves, RATE)
    first, second = made[:, :part], made[:, part:]
    torch.testing.assert_close(first.square().sum(1), torch.full((3,), 1 - share))
    torch.testing.assert_close(second.square().sum(1), torch.full((3,), share))
    names = reward_encoder.embed_text(["dog"])
    assert names[:, part:].abs().max() == 0
    pictures = reward_encoder.embed_image([Image.new("RGB", (9, 9), "red")])
    torch.testing.assert_close(pictures.norm(dim=1), torch.ones(1))


def test_before_stage_2_it_is_the_query_encoder(settings, waves):
    query = load_encoder("tiny")
    made = RewardEncoder(query, settings)
    ours = made.embed_audio(waves, RATE)[:, : query.dimension]
    torch.testing.assert_close(ours, query.embed_audio(waves, sample_rate=RATE))


def test_the_query_encoder_keeps_its_heads_when_ours_change(settings, waves):
    query = load_encoder("tiny")
    before = query.embed_audio(waves, sample_rate=RATE)
    made = RewardEncoder(query, settings, stage=0)
    for parameter in made.heads.parameters():
        parameter.data.add_(1.0)
    assert torch.equal(query.embed_audio(waves, sample_rate=RATE), before)


def test_save_and_load_give_the_same_embeddings(reward_encoder, waves, tmp_path):
    reward_encoder.save(tmp_path, {"note": "made here"})
    again = RewardEncoder.load(tmp_path)
    assert torch.equal(again.embed_audio(waves, RATE), reward_encoder.embed_audio(waves, RATE))
    assert (again.stage, again.card, again.fingerprint) == (2, {"note": "made here"}, reward_encoder.fingerprint)
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_damaged_and_missing_files_are_named(reward_encoder, tmp_path):
    with pytest.raises(ModelError, match="no reward encoder there"):
        RewardEncoder.load(tmp_path)
    reward_encoder.save(tmp_path, {})
    (tmp_path / "heads.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="no usable reward encoder"):
        RewardEncoder.load(tmp_path)
    reward_encoder.save(tmp_path, {})
    content = json.loads((tmp_path / "reward.json").read_text())
    content["settings"]["bands"] = 9
    (tmp_path / "reward.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="no usable reward encoder"):
        RewardEncoder.load(tmp_path)


def test_an_adapted_head_starts_as_its_base():
    base = MixtureHead(6, 4)
    adapted = starting_head(base, n_features=6, dimension=4, rank=2)
    assert isinstance(adapted, AdaptedHead)
    features = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(adapted(features), base(features))


@pytest.mark.skipif(
    not is_fetched("open") or not (SHIPPED / "stage3").is_dir(), reason="weights are not fetched or not shipped"
)
def test_the_shipped_encoder_prefers_a_sound_to_its_mixture():
    made = RewardEncoder.load()
    time = torch.arange(2 * RATE) / RATE
    tone = 0.1 * sum(torch.sin(2 * torch.pi * 440 * k * time) / k for k in range(1, 6))[None]
    hiss = 0.1 * torch.randn(1, 2 * RATE, generator=torch.Generator().manual_seed(0))
    anchor, mixed, other = (made.embed_audio(wave, RATE) for wave in (tone, tone + hiss, hiss))
    assert 1.01 > (anchor * anchor).sum() > (anchor * mixed).sum() > (anchor * other).sum()


@pytest.mark.parametrize("width", [0.0, 0.5])
def test_the_second_head_is_its_formula(width):
    torch.manual_seed(0)
    head = DetailHead(6, 40_000 if width else 4, inner=4, width=width)
    head.mean.fill_(0.3)
    cells = torch.rand(5, 6)
    made = head(cells)
    line = torch.nn.functional.normalize((cells - 0.3) @ head.linear.weight.T, dim=-1)
    near = line @ line.T
    # so many waves make the bell they stand for
    wanted = torch.exp((near - 1) / width**2) if width else near
    torch.testing.assert_close(made.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(made @ made.T, wanted, atol=0.03 if width else 1e-5, rtol=0)
