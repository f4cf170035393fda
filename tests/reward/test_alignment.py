import math

import pytest
import torch

from marssep.reward.alignment import Temperature, geometry_loss, info_nce_loss, label_accuracy


def unit(n, d, seed=0):
    return torch.nn.functional.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=-1)


def plain_info_nce(queries, keys, positives, temperature):
    """The definition, number by number."""
    queries, keys, positives = queries.tolist(), keys.tolist(), positives.tolist()

    def one_way(rows, columns, pairs):
        losses = []
        for row, wanted in zip(rows, pairs, strict=True):
            logits = [sum(a * b for a, b in zip(row, column, strict=True)) / temperature for column in columns]
            total = math.log(sum(math.exp(logit) for logit in logits))
            hits = [total - logit for logit, good in zip(logits, wanted, strict=True) if good]
            if hits:
                losses.append(sum(hits) / len(hits))
        return sum(losses) / len(losses)

    turned = [list(column) for column in zip(*positives, strict=True)]
    return (one_way(queries, keys, positives) + one_way(keys, queries, turned)) / 2


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_info_nce_against_a_plain_computation(temperature):
    queries, keys = unit(5, 4, seed=1), unit(7, 4, seed=2)
    positives = torch.rand(5, 7, generator=torch.Generator().manual_seed(3)) < 0.3
    positives[2] = False  # a row without a positive is left out
    loss = info_nce_loss(queries, keys, positives=positives, temperature=temperature)
    assert loss.item() == pytest.approx(plain_info_nce(queries, keys, positives, temperature), rel=1e-4)


def test_info_nce_is_the_usual_one_for_pairs():
    queries, keys = unit(6, 8, seed=1), unit(6, 8, seed=2)
    logits, target = queries @ keys.T / 0.1, torch.arange(6)
    usual = (
        torch.nn.functional.cross_entropy(logits, target) + torch.nn.functional.cross_entropy(logits.T, target)
    ) / 2
    ours = info_nce_loss(queries, keys, positives=torch.eye(6, dtype=torch.bool), temperature=0.1)
    torch.testing.assert_close(ours, usual)


def test_info_nce_without_any_positive_is_zero():
    loss = info_nce_loss(unit(3, 4), unit(2, 4), positives=torch.zeros(3, 2, dtype=torch.bool), temperature=0.1)
    assert loss.item() == 0


def test_info_nce_learns_made_pairs():
    torch.manual_seed(0)
    sounds, words = torch.randn(12, 20), torch.randn(12, 30)
    heads, temperature = torch.nn.ModuleList([torch.nn.Linear(20, 8), torch.nn.Linear(30, 8)]), Temperature()
    optimizer = torch.optim.Adam([*heads.parameters(), *temperature.parameters()], 0.02)

    def places():
        return [torch.nn.functional.normalize(head(x), dim=-1) for head, x in zip(heads, (sounds, words), strict=True)]

    for _ in range(150):
        loss = info_nce_loss(*places(), positives=torch.eye(12, dtype=torch.bool), temperature=temperature())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert label_accuracy(*places(), range(12), range(12)).mean() == 1
    assert temperature().item() != pytest.approx(0.07, rel=1e-3)


def test_temperature_stays_in_its_range():
    assert Temperature(1e-6)().item() == pytest.approx(0.02)
    assert Temperature(50.0)().item() == pytest.approx(1.0)
    assert Temperature(0.07)().item() == pytest.approx(0.07)


def test_geometry_loss_is_zero_for_a_rotation_and_has_a_slope_otherwise():
    features = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    features = features - features.mean(0)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0]
    rotated = torch.nn.functional.normalize(features @ rotation, dim=-1)
    assert geometry_loss(rotated, features).item() == pytest.approx(0, abs=1e-5)
    others = unit(20, 6, seed=5).requires_grad_()
    loss = geometry_loss(others, features)
    loss.backward()
    assert loss.item() > 0.1
    assert others.grad.abs().max() > 0


def test_label_accuracy_counts_labels_not_rows():
    keys = torch.eye(3)
    hits = label_accuracy(torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0.2, 1.0]]), keys, [7, 7, 9], [7, 8, 9])
    assert hits.tolist() == [1, 0, 1]
