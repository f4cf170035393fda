import math

import pytest
import torch
from PIL import Image

from marssep.evaluate.semantic import SemanticReference, semantic_scores

RATE = 16000
HERTZ = (400.0, 2500.0, 7000.0)  # a tone in each band that the encoder of `conftest.py` knows
TEXTS = ("drone", "chatter")


@pytest.fixture
def encoder(separator_with):
    return separator_with(0.1).encoder


@pytest.fixture
def sources():
    time = torch.arange(RATE // 2) / RATE
    loudness = (0.1, 0.3)  # the mixture is heard as its second source
    return torch.stack(
        [level * torch.sin(2 * math.pi * hertz * time) for level, hertz in zip(loudness, HERTZ, strict=False)]
    )


def scored(encoder, estimate, sources, **queries):
    return semantic_scores(encoder, estimate, reference=sources, mixture=sources.sum(0), sample_rate=RATE, **queries)


def test_the_right_sound_fits_and_the_wrong_one_does_not(encoder, sources):
    right = scored(encoder, sources, sources, texts=TEXTS)
    wrong = scored(encoder, sources.flip(0), sources, texts=TEXTS)
    assert right.text.estimate.tolist() == [1.0, 1.0]
    assert wrong.text.estimate.tolist() == [0.0, 0.0]
    assert right.audio.estimate.tolist() == [1.0, 1.0]
    assert wrong.audio.estimate.tolist() == [0.0, 0.0]


def test_improvement_and_headroom_are_over_the_mixture(encoder, sources):
    text = scored(encoder, sources, sources, texts=TEXTS).text
    assert text.mixture.tolist() == [0.0, 1.0]
    assert text.improvement.tolist() == [1.0, 0.0]
    assert text.headroom.tolist() == [1.0, 0.0]
    nothing = scored(encoder, sources.sum(0).expand(2, -1), sources, texts=TEXTS).text
    assert nothing.improvement.tolist() == [0.0, 0.0]


def test_pictures_are_asked_with_too(encoder, sources):
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    image = scored(encoder, sources, sources, images=[red, blue]).image
    assert image.estimate.tolist() == [1.0, 0.0]


def test_a_silent_estimate_scores_nothing_and_is_counted(encoder, sources):
    scores = scored(encoder, torch.zeros_like(sources), sources, texts=TEXTS)
    assert scores.text.estimate.tolist() == scores.audio.estimate.tolist() == [0.0, 0.0]


def test_a_silent_target_has_no_audio_score(encoder, sources):
    sources[0] = 0.0
    scores = scored(encoder, sources, sources, texts=TEXTS)
    assert scores.audio.estimate.isnan().tolist() == [True, False]
    assert scores.text.oracle.isnan().tolist() == [True, False]
    assert scores.text.estimate.tolist() == [0.0, 1.0]


def test_what_was_not_asked_is_not_scored(encoder, sources):
    scores = scored(encoder, sources, sources, texts=["drone", None])
    assert scores.text.estimate.isnan().tolist() == [False, True]
    assert scores.image.estimate.isnan().all()


def test_rows_name_every_figure_and_the_encoder_is_named(encoder, sources):
    scores = scored(encoder, sources, sources, texts=TEXTS)
    assert (scores.encoder, scores.fingerprint) == ("tiny", "bands")
    row = scores.rows()[0]
    assert row["clap_text"] == 1.0
    assert row["clap_text_mixture"] == 0.0
    assert row["clap_audio_oracle"] == 1.0
    assert len(scores.rows()) == 2


def test_many_systems_share_one_reference(encoder, sources):
    reference = SemanticReference.of(encoder, sources, mixture=sources.sum(0), sample_rate=RATE, texts=TEXTS)
    for estimate in (sources, sources.flip(0)):
        shared, alone = reference.scores(estimate), scored(encoder, estimate, sources, texts=TEXTS)
        assert shared.text.estimate.equal(alone.text.estimate)


def test_counts_must_agree(encoder, sources):
    with pytest.raises(ValueError, match="texts"):
        scored(encoder, sources, sources, texts=["drone"])
    reference = SemanticReference.of(encoder, sources, mixture=sources.sum(0), sample_rate=RATE)
    with pytest.raises(ValueError, match="estimates"):
        reference.scores(sources[:1])
