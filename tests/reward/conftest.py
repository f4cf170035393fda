import pytest
import torch

from marssep.query import load_encoder
from marssep.reward.encoder import RewardEncoder, RewardEncoderSettings

RATE = 16000


@pytest.fixture
def settings():
    return RewardEncoderSettings(bands=8, segments=4, detail_inner=12, detail_dimension=64, image_rank=2)


@pytest.fixture
def reward_encoder(settings):
    """A small one over the encoder `tiny`, as stage 2 begins."""
    made = RewardEncoder(load_encoder("tiny"), settings)
    made.stage = 2
    return made


@pytest.fixture
def waves():
    """Three sounds of one level and unlike colour."""
    noise = torch.fft.rfft(torch.randn(3, RATE, generator=torch.Generator().manual_seed(0)))
    centres = torch.tensor([[300.0], [900.0], [3000.0]])
    bumps = torch.exp(-(torch.log(torch.arange(1, noise.shape[1] + 1) / centres).square()))
    waves = torch.fft.irfft(noise * (bumps + 0.01), n=RATE)
    return 0.1 * waves / waves.square().mean(1, keepdim=True).sqrt()
