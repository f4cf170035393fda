"""Our own trunks for sounds and pictures as a part, to be joined with other people's words."""

from collections.abc import Sequence

from jaxtyping import Float32
from PIL import Image
from torch import Tensor, nn

from marssep.errors import UsageError
from marssep.query.pretrained.parts import Part
from marssep.runtime.fusing import Modality

_PLACE = "trunks"


class OpenPart(Part):
    """YAMNet and the EfficientNets as `open` has them: `open=trunks`. Two spaces, which heads must join."""

    takes = ("audio", "image")
    one_space = False

    def __init__(self, place: str) -> None:
        """Load the fetched trunks.

        Raises:
            UsageError: another place than `trunks`.
            ModelError: the weights were not fetched.
        """
        from marssep.query.open_encoder import OpenEncoder

        nn.Module.__init__(self)
        if place != _PLACE:
            raise UsageError(f"open={place}: the trunks of 'open' are those that were fetched; write open={_PLACE}.")
        own = OpenEncoder()
        self.model, self.digest = own, own.trunks
        self._widths = {"audio": own.audio_trunk.n_features, "image": own.heads["image"].get_buffer("mean").shape[-1]}

    def width_of(self, modality: Modality) -> int:
        """1024 for sounds, 6680 for pictures."""
        return self._widths[modality]

    def audio(self, waveform: Float32[Tensor, "b n"], sample_rate: int) -> Float32[Tensor, "b f"]:
        """YAMNet's mean over patches."""
        made: Tensor = self.model.audio_features(waveform, sample_rate)
        return made

    def image(self, images: Sequence[Image.Image]) -> Float32[Tensor, "b f"]:
        """As `open` has them."""
        made: Tensor = self.model.image_features(images)
        return made
