import math

import pytest
import torch

from marssep.query.heads import MixtureHead, NamingHead, PlainHead


def fitted(classes=3):
    head = MixtureHead(classes, 8)
    places = torch.eye(classes, 8)
    state = {"mean": torch.zeros(classes), "spread": torch.ones(classes), "bias": torch.zeros(classes)}
    head.load_state_dict({**state, "weight": 20 * torch.eye(classes), "places": places})
    return head


def test_what_fits_one_class_lands_on_it_and_what_fits_two_between_them():
    one, between = fitted()(torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]]))
    torch.testing.assert_close(one, torch.eye(8)[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(between[:2], torch.full((2,), 0.5**0.5), atol=1e-4, rtol=0)
    assert between.norm().item() == pytest.approx(1)


def test_without_a_fit_it_has_one_place_of_length_one():
    made = MixtureHead(5, 16)(torch.randn(4, 5, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(made.norm(dim=-1), torch.ones(4))
    assert torch.equal(made[0], made[3])


def test_it_takes_as_many_classes_as_the_file_has_but_no_other_features():
    head = fitted(3)
    head.load_state_dict(fitted(3).state_dict())
    copy = MixtureHead(3, 8)
    copy.load_state_dict(head.state_dict())
    features = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(copy(features), head(features))
    with pytest.raises(RuntimeError, match="size mismatch"):
        MixtureHead(4, 8).load_state_dict(head.state_dict())
    broken = {**head.state_dict(), "places": torch.zeros(2, 8)}
    with pytest.raises(RuntimeError, match="size mismatch"):
        MixtureHead(3, 8).load_state_dict(broken)


@pytest.mark.parametrize("exclusive", [False, True])
def test_naming_by_a_classifier_is_the_mean_of_its_best_names(exclusive):
    torch.manual_seed(0)
    classifier, names = torch.nn.Linear(6, 14), torch.nn.functional.normalize(torch.randn(14, 5), dim=-1)
    features = torch.randn(3, 8)  # the classifier takes the first six
    made = NamingHead(classifier, names, exclusive=exclusive, dimension=9)(features)
    for row, logits in enumerate(classifier(features[:, :6]).tolist()):
        chances = [math.exp(x) for x in logits] if exclusive else [1 / (1 + math.exp(-x)) for x in logits]
        best = sorted(range(14), key=lambda k: -chances[k])[:10]
        summed = [sum(chances[k] * names[k, d].item() for k in best) for d in range(5)]
        length = math.sqrt(sum(value * value for value in summed))
        assert made[row].tolist() == pytest.approx([value / length for value in summed] + [0.0] * 4, abs=1e-5)


def test_a_plain_head_keeps_cosines():
    features = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    made, plain = PlainHead(7)(features), torch.nn.functional.normalize(features, dim=-1)
    torch.testing.assert_close(made @ made.T, plain @ plain.T)
    assert made.shape == (4, 7)
