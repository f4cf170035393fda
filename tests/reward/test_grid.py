"""Rewards of masks on the grid: laws, agreement with the waveform's, gradients where there are any."""

import pytest
import torch

from marssep.errors import SettingsError, UsageError
from marssep.reward.grid import GRID_REWARDS, GridRewards, GridRewardSettings, GridTruth, block_snr
from marssep.reward.recogniser import Recogniser, RecogniserSettings, statistics
from marssep.reward.student import GridStudent, StudentSettings
from marssep.train.probe import truth_of

SHAPE = {"bands": 16, "segments": 8, "detail": 8, "dimension": 12, "exponent": 0.5}


@pytest.fixture(scope="module")
def student() -> GridStudent:
    torch.manual_seed(0)
    made = GridStudent(None, StudentSettings(bands=16, segments=16, channels=(4, 8)), shape=SHAPE)
    made.share.fill_(0.4)
    return made.requires_grad_(False).eval()


def _truth(seed: int = 0, *, b: int = 2, q: int = 2, labels: int = 3) -> GridTruth:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(b, q, 32, 24, generator=generator)
    power = target.sum(1) + 0.2
    name = torch.nn.functional.normalize(torch.randn(b, q, 12, generator=generator), dim=-1)
    label = torch.randint(labels, (b, q), generator=generator)
    return GridTruth(power, target, target.clone(), torch.ones(32, 1), name, label)


def _recogniser() -> Recogniser:
    generator = torch.Generator().manual_seed(3)
    sounds = torch.rand(60, 32, 24, generator=generator)
    for row in range(60):
        sounds[row, (row % 3) * 10 : (row % 3) * 10 + 10] += 5.0
    return Recogniser.fit(sounds, ["low", "middle", "top"] * 20, RecogniserSettings(trees=20))


def test_the_ideal_mask_beats_doing_nothing_and_its_inverse(student):
    truth = _truth()
    ideal = (truth.target_power / truth.power[:, None]).sqrt()
    masks = torch.stack([ideal, torch.ones_like(ideal), 1 - ideal], dim=2)
    for name in ("si_sdr", "log_magnitude"):
        total = GridRewards(GridRewardSettings(weights={name: 1.0}))(masks, truth).total
        assert (total[..., 0] > total[..., 1]).all()
        assert (total[..., 0] > total[..., 2]).all()
    cosine = GridRewards(GridRewardSettings(weights={"cosine": 1.0}, anchor="audio"), student=student)
    assert torch.allclose(cosine(masks[:, :, :1], truth).total, torch.ones(2, 2, 1), atol=0.05)


def test_si_sdr_on_the_grid_is_near_that_of_the_waveform(tiny_model):
    from marssep.metrics import si_sdr_db
    from marssep.model import load_model

    spectrogram = load_model(tiny_model).spectral
    time = torch.arange(32000) / 32000
    target = torch.sin(2 * torch.pi * 440 * time)[None] * 0.1
    mixture = target + torch.sin(2 * torch.pi * 3000 * time)[None] * 0.1
    truth = truth_of(mixture, target, name=torch.zeros(1, 1, 12), label=-1, spectrogram=spectrogram)
    rows = spectrogram.band_frequencies()[:, None]
    for edge, low in ((1200.0, 15.0), (1e9, -2.0)):
        mask = torch.sigmoid((edge - rows) / 100).expand(-1, truth.power.shape[-1])
        spectrum = spectrogram.stft(mixture, 32000)
        wide = spectrogram.from_grid(mask, 32000, spectrum.shape[-1])
        exact = si_sdr_db(spectrogram.istft(wide * spectrum, 32000, 32000), target)
        found = GridRewards(GridRewardSettings(weights={"si_sdr": 1.0}))(mask[None, None, None], truth).total * 30
        # the grid's value is a lower bound that stops counting at 30 dB
        assert low < float(found) < 30.01
        assert float(found) == pytest.approx(min(30.0, float(exact)), abs=1.0)


@pytest.mark.parametrize("name", sorted(GRID_REWARDS))
def test_gradients_reach_the_mask_but_for_the_recognisers(name, student):
    truth, masks = _truth(), torch.full((2, 2, 1, 32, 24), 0.5, requires_grad=True)
    rewards = GridRewards(GridRewardSettings(weights={name: 1.0}), student=student, recogniser=_recogniser())
    total = rewards(masks, truth).total
    assert total.shape == (2, 2, 1)
    assert total.isfinite().all()
    if name == "recogniser":
        assert not total.requires_grad
        return
    total.sum().backward()
    assert masks.grad.isfinite().all()
    assert masks.grad.any()


def test_weights_and_parts_make_the_total(student):
    settings = GridRewardSettings(weights={"cosine": 2.0, "si_sdr": 0.5})
    found = GridRewards(settings, student=student)(torch.rand(2, 2, 3, 32, 24), _truth())
    assert torch.allclose(found.total, 2 * found.components["cosine"] + 0.5 * found.components["si_sdr"])


def test_silent_targets_and_masks_have_finite_rewards(student):
    truth = _truth()
    silent = GridTruth(
        truth.power,
        torch.zeros_like(truth.target_power),
        torch.zeros_like(truth.cross_power),
        truth.cell_weight,
        truth.name,
        truth.label,
    )
    names = [name for name in GRID_REWARDS if name != "recogniser"]
    rewards = GridRewards(GridRewardSettings(weights=dict.fromkeys(names, 1.0)), student=student)
    for masks in (torch.zeros(2, 2, 1, 32, 24), torch.ones(2, 2, 1, 32, 24)):
        for each in (truth, silent):
            assert rewards(masks, each).total.isfinite().all()


def test_what_a_reward_needs_must_be_there(student):
    with pytest.raises(SettingsError, match="empty"):
        GridRewards(GridRewardSettings(weights={}))
    with pytest.raises(SettingsError, match="student"):
        GridRewards(GridRewardSettings(weights={"margin": 1.0}))
    with pytest.raises(SettingsError, match="recogniser"):
        GridRewards(GridRewardSettings(weights={"recogniser": 1.0}), student=student)


def test_blocks_are_scored_by_their_own_error():
    truth = _truth()
    ideal = (truth.target_power / truth.power[:, None]).sqrt()[:, :, None]
    spoilt = ideal.clone()
    spoilt[..., :16, :12] = 1 - spoilt[..., :16, :12]
    clean, worse = (block_snr(masks, truth, blocks=2) for masks in (ideal, spoilt))
    assert (worse[..., 0, 0] < clean[..., 0, 0]).all()
    assert torch.equal(worse[..., 1, :], clean[..., 1, :])


def test_the_recogniser_knows_what_it_learnt_at_any_level_and_gives_0_to_unknown_labels():
    recogniser = _recogniser()
    sounds = torch.rand(3, 32, 24)
    for row in range(3):
        sounds[row, row * 10 : row * 10 + 10] += 5.0
    chances = recogniser.probabilities(sounds)
    assert chances.argmax(1).tolist() == [0, 1, 2]
    assert torch.allclose(chances, recogniser.probabilities(sounds * 1e-4), atol=1e-5)
    assert recogniser.chance_of(sounds, torch.tensor([0, -1, 2]))[1] == 0
    assert torch.equal(chances, _recogniser().probabilities(sounds))  # same sounds, same seed, same forest
    assert statistics(sounds).isfinite().all()
    with pytest.raises(UsageError, match="at least two labels"):
        Recogniser.fit(sounds, ["dog"] * 3, RecogniserSettings())
