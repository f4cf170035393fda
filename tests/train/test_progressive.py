import numpy as np
import pytest
import torch

from marssep.errors import CorpusError, UsageError
from marssep.query import load_encoder
from marssep.reward.encoder import RewardEncoder, RewardEncoderSettings
from marssep.train.align import AlignmentData, LabelledFeatures
from marssep.train.progressive import ProgressiveData, stage_losses, train_stage
from marssep.train.progressive_data import Draw, Stacked, stack
from marssep.train.progressive_figures import faithfulness, name_accuracy, similarities, spearman
from marssep.train.progressive_material import Separations, disturb
from marssep.train.progressive_report import markdown, reward_report
from marssep.train.progressive_settings import ProgressiveSettings, StageSettings

LABELS = ("dog", "rain", "viola", "violin")
KINDS = ("target", "mixture", "other", "separator", *["ladder"] * 3, *["disturbed"] * 2, *["explored"] * 4)
SHARES = torch.tensor([0.0, 0.5, 1.0, 0.3, 0.1, 0.4, 0.7, 0.2, 0.6, 0.30, 0.25, 0.35, 0.28])
SHAPE = RewardEncoderSettings(bands=4, segments=2, detail_inner=6, detail_dimension=32, image_rank=2)
SMALL = ProgressiveSettings(
    encoder=SHAPE,
    stage2=StageSettings(steps=30, learning_rate=5e-3),
    stage3=StageSettings(steps=20, learning_rate=2e-3),
    batch_size=16,
    mixtures=6,
    check_every=10,
)


def made_data(seed=0):
    """A world in which features of a mixture lie between those of its sources."""
    g = torch.Generator().manual_seed(seed)
    centres = {kind: torch.randn(4, size, generator=g) for kind, size in (("audio", 64), ("image", 192), ("text", 64))}
    spectra = torch.rand(4, 64, 32, generator=g)

    def part(kind, groups, per):
        labels = torch.arange(4).repeat(per)
        features = centres[kind][labels][:, None] + 0.3 * torch.randn(
            len(labels), 2, centres[kind].shape[1], generator=g
        )
        return LabelledFeatures(
            features, labels, tuple(groups[k * len(groups) // len(labels)] for k in range(len(labels)))
        )

    groups = ("train/sound", "train/sound", "val/sound", "test/sound")
    alignment = AlignmentData(
        labels=LABELS,
        audio=part("audio", groups, 24),
        image=part("image", groups, 12),
        variants=part("image", ("train/sound",), 1),
        captions=LABELS,
        caption_features=centres["text"],
        describes=torch.eye(4, dtype=torch.bool),
        primary=torch.arange(4),
        word_features=centres["text"][:0],
    )

    def separations(k):
        one, other = k % 4, (k + 1 + k // 4 % 3) % 4
        mix = SHARES[:, None]
        features = (1 - mix) * centres["audio"][one] + mix * centres["audio"][other]
        grids = (1 - mix[..., None]) * spectra[one] + mix[..., None] * spectra[other]
        features = features + 0.1 * torch.randn(features.shape, generator=g)
        quality = 10 * torch.log10((1 - SHARES + 1e-3) / (SHARES + 1e-3))
        signals = {"si_sdr": quality / 30}
        return Separations(f"m{k}", LABELS[one], "", LABELS[other], KINDS, features, grids.pow(0.25), quality, signals)

    stacked = [stack([separations(k) for k in range(n)], LABELS, SHAPE) for n in (24, 12)]
    return ProgressiveData(alignment, stacked[0], {"val": stacked[1]})


@pytest.fixture(scope="module")
def trained():
    """Data, the encoder after each stage as a state, and which parameters moved."""
    data, encoder = made_data(), RewardEncoder(load_encoder("tiny"), SHAPE)
    states, results = {1: snapshot(encoder)}, {}
    for stage in (2, 3):
        results[stage] = train_stage(encoder, data, SMALL, stage=stage)
        states[stage] = snapshot(encoder)
    return data, encoder, states, results


def snapshot(encoder):
    return {name: value.clone() for name, value in encoder.state_dict().items()}


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_a_stage_touches_only_what_it_names(trained):
    _, encoder, states, _ = trained
    second, third = moved(states[1], states[2]), moved(states[2], states[3])
    allowed = ("heads.audio.", "detail.", "temperature.", "anchors.", "share_logit")
    assert any(name.startswith("heads.audio.") for name in second)
    assert all(name.startswith(allowed) for name in second)
    assert any(name.startswith("heads.image.") for name in third)
    assert all(name.startswith((*allowed, "heads.image.")) for name in third)
    frozen = {name for name in states[1] if name.startswith(("encoder.", "heads.text."))}
    assert frozen
    assert not frozen & (second | third)
    assert "detail.mean" not in third
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.training


def test_training_orders_separations_better(trained):
    data, encoder, _, results = trained
    before = RewardEncoder(load_encoder("tiny"), SHAPE)
    made = data.validation["val"]
    found = [faithfulness(similarities(each, made, data.alignment, anchor="audio"), made) for each in (before, encoder)]
    assert found[1].explored.mean() > found[0].explored.mean()
    assert found[1].ladder.mean() > 0.9
    assert name_accuracy(encoder, data.alignment, "audio", "val") > name_accuracy(
        before, data.alignment, "audio", "val"
    )
    assert results[2].score >= results[2].log[0]["score"]


def test_a_training_is_the_same_again():
    states = []
    for _ in range(2):
        encoder = RewardEncoder(load_encoder("tiny"), SHAPE)
        brief = SMALL.model_copy(update={"stage2": StageSettings(steps=3)})
        train_stage(encoder, made_data(), brief, stage=2)
        states.append(snapshot(encoder))
    assert not moved(*states)


def test_stages_come_in_order():
    encoder = RewardEncoder(load_encoder("tiny"), SHAPE)
    with pytest.raises(UsageError, match="cannot follow"):
        train_stage(encoder, made_data(), SMALL, stage=3)
    with pytest.raises(UsageError, match="cannot follow"):
        train_stage(encoder, made_data(), SMALL, stage=4)


def test_a_weight_of_zero_leaves_a_loss_out():
    data, encoder = made_data(), RewardEncoder(load_encoder("tiny"), SHAPE)
    encoder.stage = 2
    quiet = StageSettings(info_nce=0, triplet=0, consistency=0, replay=0)
    settings = SMALL.model_copy(update={"stage2": quiet})
    draw = Draw(data.alignment, batch_size=8, noise=0.1, generator=torch.Generator().manual_seed(0))
    losses = stage_losses(encoder, data, draw, settings, stage=2)
    assert losses.pop("anchors").item() > 0  # the anchors learn beside the heads
    assert all(value.item() == 0 for value in losses.values())


def test_rivals_are_of_another_label_and_of_the_family_if_it_has_one():
    data = made_data()
    draw = Draw(data.alignment, batch_size=8, noise=0.0, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3])
    for features, label in zip(draw.rivals(labels), labels.tolist(), strict=True):
        rows = (draw.audio.features == features).all(-1).any(-1).nonzero()[:, 0]
        assert set(draw.audio.labels[rows].tolist()).isdisjoint({label})


def test_spearman_is_scipys():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((5, 8)), rng.integers(0, 4, (5, 8)).astype(float)
    wanted = [spearmanr(one, other).statistic for one, other in zip(left, right, strict=True)]
    np.testing.assert_allclose(spearman(left, right), wanted, atol=1e-12)
    assert np.isnan(spearman(np.ones((1, 4)), np.arange(4.0)[None])).all()
    assert np.isnan(spearman(np.array([[np.nan, 1.0, 2.0]]), np.arange(3.0)[None])).all()


def test_stacking_without_a_known_label_is_refused():
    with pytest.raises(CorpusError, match="labels"):
        stack([], LABELS, SHAPE)


@pytest.mark.parametrize("seed", range(8))
def test_a_disturbed_mask_stays_a_mask(seed):
    mask = torch.rand(20, 30, generator=torch.Generator().manual_seed(seed))
    made = disturb(mask, np.random.default_rng(seed))
    assert made.shape == mask.shape
    assert bool(((made >= 0) & (made <= 1)).all())
    assert not torch.equal(made, mask)


def test_the_report_has_every_stage_reward_and_direction(trained):
    data, encoder, _, _ = trained
    stages = {1: RewardEncoder(load_encoder("tiny"), SHAPE), 3: encoder}
    made = data.validation["val"]
    assert isinstance(made, Stacked)
    pictures = torch.full((len(made.names), 192), torch.nan)
    pictures[:4] = data.alignment.image.features[:4, 0]
    report = reward_report(stages, made, data.alignment, anchor="mean", pictures=pictures)
    assert report["stages"]["3"]["audio"]["ladder"]["n"] == len(made.names)
    assert {"cosine", "margin", "si_sdr", "margin + si_sdr"} <= report["rewards"].keys()
    assert report["rewards"]["si_sdr"]["ladder"]["mean"] == 1
    assert len(report["retrieval"]["3"]) == 6
    assert list(report["steps"]["mean"]) == ["3 - 1"]
    assert report["with_picture"]["stages"]["3"]["mlbp"]["gap"]["n"] == 4
    text = markdown(report)
    assert "stage 3" in text
    assert "audio->text" in text
