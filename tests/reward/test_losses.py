import math

import pytest
import torch

from marssep.reward.losses import correlation_loss, ranking_loss, triplet_loss


def unit(n, d, seed=0):
    return torch.nn.functional.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=-1)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain_triplet(anchors, positives, negatives, margin):
    def dot(left, right):
        return sum(a * b for a, b in zip(left, right, strict=True))

    rows = zip(anchors.tolist(), positives.tolist(), negatives.tolist(), strict=True)
    losses = [max(0.0, margin - dot(a, p) + dot(a, n)) for a, p, n in rows]
    return sum(losses) / len(losses)


def plain_ranking(similarity, quality, slope, cap):
    total, pairs = 0.0, 0
    for near, good in zip(similarity.tolist(), quality.tolist(), strict=True):
        for i in range(len(near)):
            for j in range(len(near)):
                if good[i] > good[j]:
                    wanted = min(cap, slope * (good[i] - good[j]))
                    total += max(0.0, wanted - (near[i] - near[j]))
                    pairs += 1
    return total / max(1, pairs)


def plain_correlation(similarity, quality):
    values = []
    for near, good in zip(similarity.tolist(), quality.tolist(), strict=True):
        a, b = ([value - sum(row) / len(row) for value in row] for row in (near, good))
        below = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
        values.append(sum(x * y for x, y in zip(a, b, strict=True)) / below)
    return 1 - sum(values) / len(values)


def test_losses_against_plain_computations():
    similarity, quality = 0.3 * noise(3, 5, seed=1), 8 * noise(3, 5, seed=2)
    rows = unit(6, 4, seed=1), unit(6, 4, seed=2), unit(6, 4, seed=3)
    assert triplet_loss(*rows, margin=0.2).item() == pytest.approx(plain_triplet(*rows, 0.2), rel=1e-5)
    ours = ranking_loss(similarity, quality, slope=0.03, cap=0.2).item()
    assert ours == pytest.approx(plain_ranking(similarity, quality, 0.03, 0.2), rel=1e-5)
    assert correlation_loss(similarity, quality).item() == pytest.approx(
        plain_correlation(similarity, quality), rel=1e-4
    )


def test_the_order_of_rows_and_of_separations_plays_no_part():
    similarity, quality = noise(4, 6, seed=1), noise(4, 6, seed=2)
    rows, columns = torch.randperm(4), torch.randperm(6)
    shuffled = similarity[rows][:, columns], quality[rows][:, columns]
    for loss in (lambda s, q: ranking_loss(s, q, slope=0.1, cap=1.0), correlation_loss):
        torch.testing.assert_close(loss(*shuffled), loss(similarity, quality))
    three = unit(5, 4, seed=1), unit(5, 4, seed=2), unit(5, 4, seed=3)
    order = torch.randperm(5)
    torch.testing.assert_close(
        triplet_loss(*(part[order] for part in three), margin=0.5), triplet_loss(*three, margin=0.5)
    )


def test_offsets_play_no_part_and_scales_only_in_the_ranking():
    similarity, quality = noise(4, 6, seed=1), noise(4, 6, seed=2)
    moved = 0.5 * similarity + 3.0, 7.0 * quality - 2.0
    torch.testing.assert_close(correlation_loss(*moved), correlation_loss(similarity, quality))
    plain = ranking_loss(similarity, quality, slope=0.1, cap=1.0)
    torch.testing.assert_close(ranking_loss(similarity + 2.0, quality - 5.0, slope=0.1, cap=1.0), plain)
    # dB and cosine together: the same as slope and cap alone
    scaled = ranking_loss(2.0 * similarity, quality, slope=0.2, cap=2.0)
    torch.testing.assert_close(scaled, 2.0 * plain)


def test_losses_are_zero_when_all_is_well():
    quality = torch.tensor([[1.0, 5.0, 9.0]])
    assert ranking_loss(0.1 * quality, quality, slope=0.1, cap=10.0).item() == pytest.approx(0, abs=1e-6)
    assert correlation_loss(0.1 * quality, quality).item() == pytest.approx(0, abs=1e-6)
    assert triplet_loss(torch.eye(2), torch.eye(2), -torch.eye(2), margin=1.0).item() == 0


def test_constant_quality_asks_for_nothing():
    similarity = noise(2, 4).requires_grad_()
    quality = torch.ones(2, 4)
    total = ranking_loss(similarity, quality, slope=0.1, cap=1.0) + correlation_loss(similarity, quality)
    total.backward()
    assert total.item() == 0
    assert similarity.grad.abs().max() == 0
