"""A model teaches another: beside the true masks, the network learns those of a better (larger, slower) one."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from marssep.model import MaskOutput, load_model
from marssep.train.batches import Batch
from marssep.train.losses import mask_cross_entropy
from marssep.train.settings import SupervisedSettings, require_same_ears


class Teacher:
    """Answers the same queries about the same mixtures, in evaluation mode.

    Args:
        settings: of the run; `teacher` names the model.
        device: to answer on.

    Raises:
        ModelError: if there is no such model.
        SettingsError: if it hears or is asked in another way than the network that is trained.
    """

    def __init__(self, settings: SupervisedSettings, device: torch.device) -> None:
        model = load_model(settings.teacher or "")
        require_same_ears(model.config, settings, role="teacher", fields=("encoder", "spectral", "query_dimension"))
        self.sha256, self._settings = model.sha256, settings.loss
        self._network = model.network.to(device).eval().requires_grad_(False)

    def loss(
        self,
        output: MaskOutput,
        batch: Batch,
        *,
        autocast: Callable[[], AbstractContextManager[Any]],
        average: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, ""]:
        """Cross-entropy to the teacher's masks, cells weighted as those of the true ones, and to its presence.

        Args:
            output: of the network that is trained.
            batch: what it was asked.
            autocast: of the run.
            average: see `supervised_loss`.
        """
        with torch.no_grad(), autocast():
            taught = self._network(batch.targets.power, batch.query)
        masks = torch.sigmoid(taught.logits.float())
        entropy = mask_cross_entropy(output.logits.float(), batch.targets, masks, average=average)
        presence = F.binary_cross_entropy_with_logits(output.presence.float(), torch.sigmoid(taught.presence.float()))
        return entropy + self._settings.presence * presence
