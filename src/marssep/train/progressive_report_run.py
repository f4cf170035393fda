"""One whole run of the faithfulness report: corpus, separator and reward encoders in, figures out."""

import datetime
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from marssep.corpus.lists import read_list
from marssep.corpus.mixing import MixtureSpec
from marssep.corpus.store import CORPUS_RATE, Corpus
from marssep.errors import CorpusError
from marssep.model import LoadedModel, load_model
from marssep.query import QueryEncoder, TrunkFeatures, load_encoder
from marssep.reward.encoder import RewardEncoder
from marssep.reward.shapes import RewardInputs, local_similarities
from marssep.train.align import alignment_data
from marssep.train.progressive_cache import separations
from marssep.train.progressive_data import Stacked, stack
from marssep.train.progressive_material import REPORT_COUNTS, render_separations
from marssep.train.progressive_report import figures, reward_report
from marssep.train.progressive_run import CACHE

TEST_LIST = "open-test"


def run_report(
    folders: Sequence[Path],
    reward: Path,
    *,
    model: str,
    mixtures: int,
    anchor: str,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Figures of the stages 0 to 3 on test mixtures, with what is needed to obtain them again.

    Args:
        folders: corpus folders; caches lie beside the first.
        reward: folder with `stage2` and `stage3`.
        model: separator around whose masks the policy explores.
        mixtures: how many of the test list.
        anchor: key of `ANCHORS`.
        report: called with lines for the person who waits.

    Raises:
        CorpusError, ModelError: as said there; a corpus that lacks recordings of the test list.
    """
    started = time.time()
    corpus, separator = Corpus.open(folders), load_model(model)
    encoder = load_encoder(separator.config.encoder)
    specs = _test_mixtures(corpus, mixtures, folders[0])
    features = TrunkFeatures.build(corpus, encoder, folders[0].parent / ".features")
    data = alignment_data(corpus.items, features)
    made = separations(
        specs,
        corpus,
        (separator, encoder),
        folders[0].parent / CACHE,
        counts=REPORT_COUNTS,
        progress=lambda done, total: report(f"{TEST_LIST} {done}/{total}") if done % 25 == 0 else None,
    )
    encoders = _stages(reward, encoder)
    last = encoders[3]
    stacked = stack(made, data.labels, last.settings)
    found = reward_report(encoders, stacked, data, anchor=anchor, pictures=_pictures(stacked, corpus, features))
    found["local_rewards"] = _local_figures(specs, corpus, (separator, encoder), last, stacked, tell=report)
    return {
        "what": "does the reward rise where a separation gets better: see docs/reward.md",
        "list": TEST_LIST,
        **found,
        "separations": {kind: len(stacked.columns(kind)) for kind in dict.fromkeys(stacked.kinds)},
        "separator": separator.sha256,
        "reward_encoder": last.fingerprint,
        "versions": {"torch": torch.__version__},
        "date": datetime.date.today().isoformat(),
        "wall_seconds": round(time.time() - started, 1),
    }


def _test_mixtures(corpus: Corpus, limit: int, folder: Path) -> list[MixtureSpec]:
    specs = read_list(TEST_LIST)[:limit]
    missing = {source.item for spec in specs for source in spec.sources} - corpus.by_id.keys()
    if missing:
        raise CorpusError(f"{folder}: lacks {len(missing)} recordings of '{TEST_LIST}', such as {min(missing)}.")
    return specs


def _stages(reward: Path, encoder: QueryEncoder) -> dict[int, RewardEncoder]:
    last = RewardEncoder.load(reward / "stage3", encoder=encoder)
    return {
        0: RewardEncoder(encoder, last.settings, stage=0),
        1: RewardEncoder(encoder, last.settings),
        2: RewardEncoder.load(reward / "stage2", encoder=encoder),
        3: last,
    }


def _local_figures(
    specs: Sequence[MixtureSpec],
    corpus: Corpus,
    makers: tuple[LoadedModel, QueryEncoder],
    encoder: RewardEncoder,
    stacked: Stacked,
    *,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    rows: dict[str, list[Tensor]] = {}
    places = {spec.id: index for index, spec in enumerate(specs)}
    for done, name in enumerate(stacked.names, 1):
        values = local_rewards(specs[places[name]], places[name], corpus, makers, encoder)
        for reward, each in values.items():
            rows.setdefault(reward, []).append(each)
        if done % 25 == 0:
            tell(f"local rewards {done}/{len(stacked.names)}")
    return {reward: figures(torch.stack(each), stacked) for reward, each in rows.items()}


@torch.no_grad()
def local_rewards(
    spec: MixtureSpec, index: int, corpus: Corpus, makers: tuple[LoadedModel, QueryEncoder], encoder: RewardEncoder
) -> dict[str, Tensor]:
    """The rewards that need the waveforms, of all separations of one mixture of the list."""
    waves = render_separations(spec, corpus, *makers, counts=REPORT_COUNTS, seed=index).waves
    none = torch.empty(1, 0)  # the local rewards need no anchor
    inputs = RewardInputs(
        estimate=waves,
        target=waves[:1],
        mixture=waves[1:2],
        sample_rate=CORPUS_RATE,
        anchor=none,
        rest_anchor=none,
    )
    near = local_similarities(encoder, inputs)
    return {"local_cosine": near.to_target, "local_margin": (near.to_target - near.to_rest) / 2}


def _pictures(made: Stacked, corpus: Corpus, features: TrunkFeatures) -> Tensor:
    """Features of a picture of every target, NaN where there is none."""
    empty = torch.full_like(torch.from_numpy(next(iter(features.image.values()))[0]).float(), torch.nan)
    rows = []
    for picture in made.pictures:
        item = corpus.by_id.get(picture)
        known = item is not None and item.sha256 in features.image
        rows.append(torch.from_numpy(features.image[item.sha256][0]).float() if known and item is not None else empty)
    return torch.stack(rows)
