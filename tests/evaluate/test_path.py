"""The evaluation's path is the user's path."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from marssep.corpus.mixing import MixtureSpec, render
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.evaluate.path import separate_queries
from marssep.model import LoadedModel, ModelConfig, build_network
from marssep.query import load_encoder
from marssep.query.heads import MixtureHead
from marssep.separate import Separator

SMALL = {"channels": [8, 8, 8], "query_channels": 16}


LISTENING = {"presence_match": 2.5}
FINELY = {**LISTENING, "presence_spread": -1.5, "presence_rival": 1.0, "presence_rivals": ("birds", "rain")}


@pytest.mark.parametrize(("chunk_steps", "presence"), [(16, {}), (128, {}), (16, LISTENING), (16, FINELY)])
def test_it_is_the_separation_that_a_user_gets(
    corpus: Corpus, specs: list[MixtureSpec], chunk_steps: int, presence: dict[str, Any]
) -> None:
    config = ModelConfig(network=SMALL, encoder="tiny", query_dimension=16, chunk_steps=chunk_steps, **presence)
    torch.manual_seed(0)
    network = build_network(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    separator = Separator(LoadedModel(network, config, {}, ""), load_encoder("tiny"))
    mixture = render(specs[0], corpus).mixture
    texts = ["drone", "chatter", "hiss"]
    queries = separator.encoder.embed_text(texts)
    separated = separate_queries(
        separator.model, separator.encoder, torch.from_numpy(mixture), CORPUS_RATE, queries=queries
    )
    for text, target, told in zip(texts, separated.targets, separated.presence, strict=True):
        expected = separator.separate((mixture, CORPUS_RATE), text=text, gate=False)
        np.testing.assert_allclose(target.numpy(), expected.target[0], atol=1e-6)
        assert told == pytest.approx(expected.presence, abs=1e-6)


def test_silence_in_silence_out(separator_with: Callable[..., Separator]) -> None:
    ours = separator_with(0.1)
    queries = torch.eye(3)
    separated = separate_queries(ours.model, ours.encoder, torch.zeros(8000), CORPUS_RATE, queries=queries)
    assert not separated.targets.any()
    assert separated.presence == (0.0, 0.0, 0.0)


def test_a_picture_is_settled_as_for_a_user(corpus: Corpus, specs: list[MixtureSpec]) -> None:
    config = ModelConfig(network=SMALL, encoder="tiny", query_dimension=16, chunk_steps=16, presence_match=1.0)
    torch.manual_seed(0)
    network = build_network(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    encoder = load_encoder("tiny")
    head = MixtureHead(192, 16)
    head.weight, head.bias = torch.zeros(5, 192), torch.arange(5.0)
    head.places = torch.nn.functional.normalize(torch.randn(5, 16), dim=-1)
    encoder.heads["image"] = head
    separator = Separator(LoadedModel(network, config, {}, ""), encoder)
    mixture, picture = render(specs[0], corpus).mixture, Image.new("RGB", (16, 16), (9, 200, 90))
    readings = encoder.read_images([picture])
    assert readings is not None
    separated = separate_queries(
        separator.model, encoder, torch.from_numpy(mixture), CORPUS_RATE, queries=[readings, readings.embedding]
    )
    expected = separator.separate((mixture, CORPUS_RATE), image=picture, gate=False)
    np.testing.assert_allclose(separated.targets[0].numpy(), expected.target[0], atol=1e-6)
    assert separated.presence[0] == pytest.approx(expected.presence, abs=1e-6)
    assert separated.presence[0] != pytest.approx(separated.presence[1], abs=1e-6)
