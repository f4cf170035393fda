import math

import numpy as np
import pytest
import torch
from torch import nn

from marssep.errors import ModelError, UsageError
from marssep.evaluate.judge import SAMPLE_RATE, Judge, judge_scores, load_judge
from marssep.query import weights


@pytest.fixture(scope="module")
def judge():
    """Its shape and front end with random weights; what the real ones hear is in results/judge.json."""
    torch.manual_seed(0)
    return Judge()


@pytest.fixture(scope="module")
def sounds():
    time = torch.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    return torch.stack([0.2 * torch.sin(2 * math.pi * 700 * time), 0.1 * noise])


def test_the_front_end_is_the_packages_librosa_path(judge, sounds):
    librosa = pytest.importorskip("librosa")
    for sound in sounds:
        scaled = sound.numpy() / np.abs(sound.numpy()).max()
        theirs = librosa.feature.melspectrogram(
            y=scaled,
            sr=44100.0,
            n_mels=96,
            norm=1.0,
            fmin=0.0,
            fmax=22050.0,
            htk=True,
            hop_length=1024,
            win_length=2048,
        )
        ours = judge.spectrogram(sound[None], SAMPLE_RATE)[0].T
        np.testing.assert_allclose(ours, np.log10(theirs * 10000.0 + 1), rtol=0, atol=1e-3)


def test_embeddings_lie_on_the_sphere_and_ignore_the_level(judge, sounds):
    loud, quiet = judge(sounds, SAMPLE_RATE), judge(0.01 * sounds, SAMPLE_RATE)
    torch.testing.assert_close(loud.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(loud, quiet, rtol=0, atol=1e-4)


def test_any_rate_is_heard_alike(judge, sounds):
    tone = torch.sin(2 * math.pi * 700 * torch.arange(8000) / 16000)[None]
    apart = (judge(tone, 16000) * judge(sounds[:1], SAMPLE_RATE)).sum()
    assert apart > 0.99


def test_every_sample_counts_once_there_is_a_block(judge):
    spectrogram = torch.rand(1, 173, 96)
    blocks = judge.blocks(spectrogram)
    assert blocks.shape == (1, 3, 100, 96)
    torch.testing.assert_close(blocks[0, -1, -1] * 9.457798957824707, spectrogram[0, -1])
    assert judge.blocks(spectrogram[:, :7])[0, 0, 7:].abs().max() == 0.0


def test_silence_has_no_embedding_but_a_score(judge, sounds):
    assert judge(torch.zeros(1, 4000), SAMPLE_RATE).isnan().all()
    estimate = torch.stack([sounds[0], torch.zeros_like(sounds[1])])
    scores = judge_scores(judge, estimate, reference=sounds, mixture=sounds.sum(0), sample_rate=SAMPLE_RATE)
    torch.testing.assert_close(scores.estimate, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(scores.improvement, scores.estimate - scores.mixture)
    silent = judge_scores(judge, sounds, reference=0.0 * sounds, mixture=sounds.sum(0), sample_rate=SAMPLE_RATE)
    assert silent.estimate.isnan().all()


def test_doing_nothing_improves_nothing(judge, sounds):
    mixture = sounds.sum(0)
    scores = judge_scores(judge, mixture.expand(2, -1), reference=sounds, mixture=mixture, sample_rate=SAMPLE_RATE)
    torch.testing.assert_close(scores.improvement, torch.zeros(2), rtol=0, atol=1e-6)


def test_no_samples_are_refused(judge):
    with pytest.raises(UsageError, match="judge"):
        judge(torch.zeros(1, 0), SAMPLE_RATE)


def test_normalisation_is_folded_into_the_convolutions(tmp_path):
    """A checkpoint of the original's shape, with few channels, against the original's order of layers."""
    torch.manual_seed(1)
    state, layers, width = {}, [], 1
    for index in range(8):
        block, number = f"embedding_net.conv_block{index // 2 + 1}", index % 2 + 1
        convolution, norm = nn.Conv2d(width, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3).eval()
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.data.uniform_(0.5, 1.5)
        state |= {f"{block}.conv{number}.{key}": value for key, value in convolution.state_dict().items()}
        state |= {f"{block}.bn{number}.{key}": value for key, value in norm.state_dict().items()}
        layers += [convolution, norm]
        width = 3
    torch.save((state, {"library": (np.int64(0), 78)}), tmp_path / "checkpoint.pth")
    made = weights._judge_tensors(tmp_path / "checkpoint.pth")
    ours = theirs = torch.randn(1, 1, 8, 8)
    for index in range(8):
        theirs = layers[2 * index + 1](layers[2 * index](theirs))
        kernel, bias = (made[f"convolutions.{index}.{key}"].float() for key in ("weight", "bias"))
        ours = nn.functional.conv2d(ours, kernel, bias, padding=1)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_weights_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "judge.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="models fetch judge"):
        load_judge(path)
    with pytest.raises(ModelError, match=r"judge\.safetensors"):
        load_judge(tmp_path / "absent" / "judge.safetensors")


@pytest.mark.skipif(not weights.is_fetched("judge"), reason="weights are not fetched")
def test_the_real_judge_prefers_less_interference(sounds):
    judge, (tone, noise) = load_judge(), sounds
    noisy = torch.stack([tone + gain * noise for gain in (0.03, 0.3, 3.0)])
    scores = judge_scores(
        judge, noisy, reference=tone.expand(3, -1), mixture=noisy[-1], sample_rate=SAMPLE_RATE
    ).estimate.tolist()
    assert scores == sorted(scores, reverse=True)
