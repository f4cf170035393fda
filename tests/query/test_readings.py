"""Readings of a picture: the likeliest classes, and what happens once something speaks for one of them."""

import torch
from PIL import Image

from marssep.query import Query, Readings, load_encoder, read_query
from marssep.query.heads import MixtureHead

PLACES = torch.nn.functional.normalize(torch.randn(12, 6, generator=torch.Generator().manual_seed(0)), dim=-1)
CHANCES = torch.linspace(1.0, 12.0, 12) / 78.0


def test_the_likeliest_are_kept_and_all_make_the_embedding() -> None:
    readings = Readings.of(PLACES, CHANCES, kept=3)
    torch.testing.assert_close(readings.places, PLACES[[11, 10, 9]])
    torch.testing.assert_close(readings.chances, CHANCES[[11, 10, 9]])
    torch.testing.assert_close(readings.embedding, torch.nn.functional.normalize(CHANCES @ PLACES, dim=0))


def test_without_evidence_the_chances_stay() -> None:
    readings = Readings.of(PLACES, CHANCES, kept=12)
    torch.testing.assert_close(readings.reweighted(torch.zeros(12)), readings.embedding)


def test_evidence_chooses_a_reading() -> None:
    readings = Readings.of(PLACES, CHANCES, kept=4)
    evidence = torch.tensor([0.0, 0.0, 20.0, 0.0])
    torch.testing.assert_close(readings.reweighted(evidence), PLACES[9], atol=1e-4, rtol=0.0)


def test_only_a_picture_alone_is_read() -> None:
    encoder = load_encoder("tiny")
    picture = Image.new("RGB", (32, 32), (200, 30, 30))
    assert read_query(Query(image=picture), encoder) is None  # its picture head does not guess
    head = MixtureHead(192, 16)
    head.weight, head.bias = torch.zeros(3, 192), torch.tensor([0.0, 1.0, 2.0])
    head.places = torch.nn.functional.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(1)), dim=-1)
    encoder.heads["image"] = head
    readings = read_query(Query(image=picture), encoder)
    assert readings is not None
    torch.testing.assert_close(readings.chances, torch.tensor([2.0, 1.0, 0.0]).softmax(0))
    torch.testing.assert_close(readings.embedding, encoder.embed_image([picture])[0])
    assert read_query(Query(image=picture, text="dog"), encoder) is None
    assert read_query(Query(image=picture, negative="rain"), encoder) is not None
    assert read_query(Query(image=picture, negative="rain", negative_in="embedding"), encoder) is None
