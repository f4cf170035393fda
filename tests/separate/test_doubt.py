"""The map of doubt: the spread of the policy around the mask."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import beta

from marssep import Query, Separator, write_audio
from marssep.separate import FileSettings
from marssep.separate.doubt import CONCENTRATION, spread

RATE = 16000


def test_the_spread_is_that_of_the_beta_distribution_whose_mode_is_the_mask():
    mask = torch.linspace(0, 1, 11)
    expected = [beta(1 + CONCENTRATION * p, 1 + CONCENTRATION * (1 - p)).std() for p in mask.tolist()]
    assert spread(mask).tolist() == pytest.approx(expected, rel=1e-5)
    assert spread(mask).argmax() == 5
    assert (spread(mask, concentration=100.0) < spread(mask)).all()


def test_results_have_it_and_pictures_draw_it(tiny_model, tmp_path):
    separator = Separator.load(tiny_model)
    waveform = (0.1 * np.random.default_rng(0).standard_normal((1, RATE))).astype(np.float32)
    result = separator.separate((waveform, RATE), text="dog")
    np.testing.assert_allclose(result.uncertainty, spread(torch.from_numpy(result.grid_mask)).numpy())
    write_audio(tmp_path / "in.wav", waveform, sample_rate=RATE)
    heights, skipped = [], []
    for uncertainty in (False, True, True):
        settings = FileSettings(picture=True, uncertainty=uncertainty, resume=True)
        (made,) = separator.separate_file(tmp_path / "in.wav", [Query(text="dog")], tmp_path / "out", settings=settings)
        with Image.open(made.files.picture) as picture:
            heights.append(picture.height)
        skipped.append(made.skipped)
    assert heights[0] < heights[1] == heights[2]
    assert skipped == [False, False, True]
