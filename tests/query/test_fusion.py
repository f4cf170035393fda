import math

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
    embeddings = {name: value.expand(4000, 3) for name, value in axes("text", "audio", "image").items()}
    mixed = query_mixup(embeddings, generator=torch.Generator().manual_seed(0))
    again = query_mixup(embeddings, generator=torch.Generator().manual_seed(0))
    assert torch.equal(mixed, again)
    assert (mixed >= 0).all()
    torch.testing.assert_close(mixed.norm(dim=-1), torch.ones(4000))
    shares = mixed / mixed.sum(-1, keepdim=True)
    torch.testing.assert_close(shares.mean(0), torch.full((3,), 1 / 3), atol=0.02, rtol=0)
    # uniform on the simplex: each share has the variance 1/18
    torch.testing.assert_close(shares.var(0), torch.full((3,), 1 / 18), atol=0.005, rtol=0)


def test_mixup_leaves_out_what_is_not_there():
    embeddings = {name: value.expand(50, 2) for name, value in axes("text", "audio").items()}
    there = torch.arange(50) % 2 == 0
    mixed = query_mixup(embeddings, present={"audio": there})
    assert (mixed[~there] == torch.tensor([1.0, 0.0])).all()
    assert (mixed[there][:, 1] > 0).all()


def test_mixup_refuses_a_row_without_anything():
    with pytest.raises(UsageError, match="no modality"):
        query_mixup({"text": torch.ones(2, 1)}, present={"text": torch.tensor([True, False])})
    with pytest.raises(UsageError, match="at least one"):
        query_mixup({})
