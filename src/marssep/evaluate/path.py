"""All queries of one recording in one pass, by the very steps that `Separator.separate` takes for one."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from marssep.model import LoadedModel
from marssep.query import QueryEncoder, Readings
from marssep.runtime.hearing import Heard
from marssep.separate.adapting import learn_whole
from marssep.separate.blocks import grid_power
from marssep.separate.chunks import cross_fade, hear
from marssep.separate.presence import Ear, Evidence, find_stretches
from marssep.separate.settling import settle
from marssep.separate.trace import SecondLevels, loudest_db


@dataclass(frozen=True, slots=True)
class SeparatedQueries:
    """What a model makes of every query; the gate is open, so that its effect can be told apart from the mask's.

    Attributes:
        targets: one estimate for each query.
        evidence: what speaks for each sound being there.
        presence: probability that each sound is there.
        loudest_db: level of each target relative to the mixture where that is highest.
    """

    targets: Float[Tensor, "q n"]
    evidence: tuple[Evidence, ...]
    presence: tuple[float, ...]
    loudest_db: tuple[float, ...]


@torch.inference_mode()
def separate_queries(
    model: LoadedModel,
    encoder: QueryEncoder,
    mixture: Float[Tensor, " n"],
    sample_rate: int,
    *,
    queries: Sequence[Tensor | Readings] | Float[Tensor, "q d"],
    listening: bool = False,
) -> SeparatedQueries:
    """Separate one recording by several queries; the network sees the mixture once.

    Args:
        model: network and settings.
        encoder: the query encoder that the network was trained with.
        mixture: one channel, full scale 1.0.
        sample_rate: Hz.
        queries: unit-norm embeddings, or readings to settle by the mixture.
        listening: gather all evidence of presence, also what the model's presence does not use.
    """
    spectral = model.spectral
    power = grid_power(mixture[None], sample_rate, spectral)
    config = model.config
    settled = {
        index: settle(model, encoder, query, mixture=mixture[None], sample_rate=sample_rate, power=power)
        for index, query in enumerate(queries)
        if isinstance(query, Readings)
    }
    embeddings = torch.stack([settled[k].embedding if k in settled else query for k, query in enumerate(queries)])
    masks, proposed = _propose(model, power, embeddings)
    logits = [settled[k].presence if k in settled else float(logit) for k, logit in enumerate(proposed)]
    targets = _targets(model, mixture, sample_rate, masks)
    heard = [Heard()] * len(embeddings)
    if listening or config.evidence_weights.listens:
        ear = Ear.of(config, encoder, wholly=listening)
        stretches = [find_stretches(target, sample_rate, seconds=model.chunk_seconds) for target in targets]
        heard = [ear.listen(each, query) for each, query in zip(stretches, embeddings, strict=True)]
    evidence = tuple(Evidence(logit, each) for logit, each in zip(logits, heard, strict=True))
    made = torch.cat(targets)
    levels = SecondLevels(sample_rate)
    levels.push(0, [*made[:, None], mixture[None]])
    energies = levels.energies()
    loudest = loudest_db(energies[:-1], energies[-1], seconds=model.chunk_seconds).tolist()
    return SeparatedQueries(made, evidence, tuple(each.presence(config) for each in evidence), tuple(loudest))


def _targets(
    model: LoadedModel, mixture: Float[Tensor, " n"], sample_rate: int, masks: Float[Tensor, "q bands steps"]
) -> list[Float[Tensor, "1 n"]]:
    """Under masks that were adapted to the mixture."""
    spectral = model.spectral
    spectrum = spectral.stft(mixture[None], sample_rate)
    with learn_whole(spectrum, masks, sample_rate, spectral, directions=False) as adaptation:
        wide = spectral.from_grid(masks, sample_rate, spectrum.shape[-1]).numpy()
        made = [adaptation.apply(spectrum.numpy(), each, sound=index) for index, each in enumerate(wide)]
    return [spectral.istft(torch.from_numpy(each), sample_rate, len(mixture)) for each in made]


def _propose(
    model: LoadedModel, power: Float[Tensor, "bands steps"], queries: Float[Tensor, "q d"]
) -> tuple[Float[Tensor, "q bands steps"], Float[Tensor, " q"]]:
    """As `marssep.separate.chunks.propose`, for several targets."""
    if not power.any():  # digital silence: nothing is there
        return power.expand(len(queries), -1, -1), torch.full((len(queries),), -torch.inf)
    heard = hear(model.network, power, queries, chunk_steps=model.config.chunk_steps)
    masks = torch.sigmoid(heard.logits)
    faded = [cross_fade(masks[:, index], heard.starts, n_steps=power.shape[-1]) for index in range(len(queries))]
    return torch.stack(faded), heard.presence
