"""What the later stages of the alignment learn from: stacked separations, and batches of recordings and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from marssep.corpus import family_of
from marssep.errors import CorpusError
from marssep.reward.detail import relative_power
from marssep.reward.encoder import RewardEncoderSettings
from marssep.train.align import AlignmentData, LabelledFeatures
from marssep.train.progressive_material import Separations

_BEST, _WORST = 30.0, -20.0  # dB; beyond, more or less makes no difference


@dataclass(frozen=True)
class Stacked:
    """Separations of many mixtures, all with the same kinds in the same order.

    Attributes:
        features: of the trunk.
        grids: relative power, pooled as the encoder wants it.
        si_sdr: dB, held within -20 to 30.
        kinds: k names, see `progressive_material.KINDS`.
        labels: of the targets.
        others: of the loudest other source, -1 where it is none of the labels.
        names: m names of the mixtures.
        pictures: m ids of pictures of the targets, empty where the list has none.
        signals: rewards that compare signals, by name, `[m, k]`.
    """

    features: Float[Tensor, "m k f"]
    grids: Float[Tensor, "m k bands segments"]
    si_sdr: Float[Tensor, "m k"]
    kinds: tuple[str, ...]
    labels: Int[Tensor, " m"]
    others: Int[Tensor, " m"]
    names: tuple[str, ...]
    pictures: tuple[str, ...]
    signals: dict[str, Tensor]

    def columns(self, *kinds: str) -> list[int]:
        """Which separations are of these kinds."""
        return [column for column, kind in enumerate(self.kinds) if kind in kinds]


def stack(made: Sequence[Separations], labels: Sequence[str], settings: RewardEncoderSettings) -> Stacked:
    """Stack separations whose targets have a known label.

    Raises:
        CorpusError: there are none.
    """
    number = {label: index for index, label in enumerate(labels)}
    kept = [each for each in made if each.label in number]
    if not kept:
        raise CorpusError("No mixture has a target among the labels of the corpus; is it the one the list belongs to?")
    power = torch.stack([each.grids for each in kept]).pow(4)
    pooled = F.adaptive_avg_pool2d(power.flatten(0, 1), (settings.bands, settings.segments))
    return Stacked(
        features=torch.stack([each.features for each in kept]),
        grids=relative_power(pooled).unflatten(0, power.shape[:2]),
        si_sdr=torch.stack([each.si_sdr for each in kept]).clamp(_WORST, _BEST),
        kinds=kept[0].kinds,
        labels=torch.tensor([number[each.label] for each in kept]),
        others=torch.tensor([number.get(each.other, -1) for each in kept]),
        names=tuple(each.name for each in kept),
        pictures=tuple(each.picture for each in kept),
        signals={name: torch.stack([each.signals[name] for each in kept]) for name in kept[0].signals},
    )


class Draw:
    """Draws recordings and pictures of the training split, evenly over labels, and captions for labels."""

    def __init__(self, data: AlignmentData, *, batch_size: int, noise: float, generator: torch.Generator) -> None:
        self.data, self.batch_size, self.noise, self.generator = data, batch_size, noise, generator
        self.audio = data.audio.where(lambda group: group.startswith("train/"))
        self.image = data.image.where(lambda group: group.startswith("train/"))
        self.spreads = {id(part): part.features.flatten(0, -2).std(0) for part in (self.audio, self.image)}
        self._captions = [data.describes[:, label].nonzero()[:, 0] for label in range(len(data.labels))]
        families = [family_of(label) for label in data.labels]
        self._rivals = self._rival_rows(families)

    def recordings(self) -> tuple[Tensor, Tensor, Tensor]:
        """Two noisy crops `[b, f]` of each of b recordings, and their labels."""
        rows = self._rows(self.audio)
        first, second = (self._noisy(self.audio, rows) for _ in range(2))
        return first, second, self.audio.labels[rows]

    def pictures(self) -> tuple[Tensor, Tensor]:
        """Noisy features `[b, f]` of pictures, and their labels."""
        rows = self._rows(self.image)
        return self._noisy(self.image, rows), self.image.labels[rows]

    def rivals(self, labels: Int[Tensor, " b"]) -> Tensor:
        """For each label, noisy features of a recording of another label, of the same family where there is one."""
        rows = [self._rivals[label] for label in labels.tolist()]
        chosen = torch.tensor([int(choice[self._index(len(choice))]) for choice in rows])
        return self._noisy(self.audio, chosen)

    def captions(self, labels: Int[Tensor, " b"]) -> Tensor:
        """Features `[b, f]` of a random caption of each label."""
        rows = [self._captions[label] for label in labels.tolist()]
        chosen = torch.stack([row[self._index(len(row))] for row in rows])
        return self.data.caption_features[chosen]

    def pictures_of(self, labels: Int[Tensor, " b"]) -> Tensor:
        """Features `[b, f]` of a random training picture of each label, of any label where it has none."""
        known = [(self.image.labels == label).nonzero()[:, 0] for label in labels.tolist()]
        rows = [row if len(row) else torch.arange(len(self.image.labels)) for row in known]
        return self._noisy(self.image, torch.stack([row[self._index(len(row))] for row in rows]))

    def index(self, n: int, count: int) -> Tensor:
        """`count` numbers below n."""
        return torch.randint(n, (count,), generator=self.generator)

    def _rows(self, part: LabelledFeatures) -> Tensor:
        weights = 1.0 / torch.bincount(part.labels).float().clamp_min(1)
        return torch.multinomial(weights[part.labels], self.batch_size, replacement=True, generator=self.generator)

    def _noisy(self, part: LabelledFeatures, rows: Tensor) -> Tensor:
        crops = torch.randint(part.features.shape[1], (len(rows),), generator=self.generator)
        chosen = part.features[rows, crops]
        noise = torch.randn(chosen.shape, generator=self.generator)
        return chosen + self.noise * self.spreads[id(part)] * noise

    def _rival_rows(self, families: Sequence[str]) -> list[Tensor]:
        labels = self.audio.labels
        rivals = []
        for number, family in enumerate(families):
            near = torch.tensor([other == family and index != number for index, other in enumerate(families)])
            rows = near[labels].nonzero()[:, 0]
            rivals.append(rows if len(rows) else (labels != number).nonzero()[:, 0])
        return rivals

    def _index(self, n: int) -> int:
        return int(torch.randint(n, (1,), generator=self.generator))
