import math

import numpy as np
import pytest
import torch

from marssep.errors import UsageError
from marssep.query import fuse, negate, query_mixup


def axes(*names):
    return {name: torch.eye(len(names))[index] for index, name in enumerate(names)}


def test_one_modality_stays_itself():
    assert torch.equal(fuse(axes("audio")), torch.tensor([1.0]))


def test_default_weights_are_those_of_the_paper():
    fused = fuse(axes("text", "audio", "image"))
    torch.testing.assert_close(fused, torch.tensor([2.0, 1.0, 2.0]) / 3)


def test_own_weights_and_batches():
    embeddings = {name: value.expand(4, 2) for name, value in axes("text", "audio").items()}
    fused = fuse(embeddings, {"audio": 6.0})
    torch.testing.assert_close(fused, torch.tensor([[2.0, 6.0]] * 4) / math.sqrt(40))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"text": -1.0}, ">= 0"),
        ({"text": 0.0, "audio": 0.0}, "not all 0"),
        ({"smell": 1.0}, "Unknown modality 'smell'"),
    ],
)
def test_refuses_weights_that_mean_nothing(weights, message):
    with pytest.raises((UsageError, TypeError), match=message if "smell" not in weights else None):
        fuse(axes("text", "audio"), weights)


def test_refuses_nothing_at_all():
    with pytest.raises(UsageError, match="no query embedding"):
        fuse({})


def test_negate_is_the_formula_and_zero_changes_nothing():
    query, negative = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    torch.testing.assert_close(negate(query, negative), torch.tensor([1.5, -0.5]))
    assert torch.equal(negate(query, negative, 0.0), query)


def test_mixup_is_convex_seeded_and_covers_the_simplex():
    embeddings = {name: value.numpy() for name, value in axes("text", "audio", "image").items()}
    rng, again = np.random.default_rng(0), np.random.default_rng(0)
    mixed = np.stack([query_mixup(embeddings, rng) for _ in range(4000)])
    assert np.array_equal(mixed[0], query_mixup(embeddings, again))
    assert (mixed >= 0).all()
    np.testing.assert_allclose(mixed.sum(1), 1.0, atol=1e-5)
    np.testing.assert_allclose(mixed.mean(0), 1 / 3, atol=0.02)
    assert mixed.max() > 0.9


def test_mixup_of_one_modality_is_itself():
    alone = {"text": np.float32([0.6, 0.8])}
    np.testing.assert_allclose(query_mixup(alone, np.random.default_rng(1)), alone["text"], atol=1e-6)


def test_mixup_of_nothing_is_refused():
    with pytest.raises(UsageError, match="at least one"):
        query_mixup({}, np.random.default_rng(0))
