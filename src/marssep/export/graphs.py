"""The parts of a model as ONNX graphs: mask network, trunks and heads of the query encoder."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from marssep.errors import ModelError
from marssep.model import MaskNetwork
from marssep.query.heads import MixtureHead
from marssep.query.trunks import AudioTrunk, ImageTrunk, TextTrunk

OPSET = 18
_MOST = 4096  # an upper bound that the exporter asks for; the graphs do not hold it


class _Masks(nn.Module):
    def __init__(self, network: MaskNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, power: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        output = self.network(power, query)
        return output.logits, output.presence


class _Patches(nn.Module):
    def __init__(self, trunk: AudioTrunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, patches: Tensor) -> Tensor:
        return self.trunk.convolve(patches.unsqueeze(1))


class _Text(nn.Module):
    """One text without padding: nothing to mask."""

    def __init__(self, trunk: TextTrunk, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, tokens: Tensor) -> Tensor:
        states = self.trunk.norm(self.trunk.words(tokens) + self.trunk.positions[: tokens.shape[1]])
        made: Tensor = self.head(self.trunk.layers(states).mean(1))
        return made


class _Guesses(nn.Module):
    def __init__(self, head: MixtureHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        return self.head.guesses(features)


def network_graph(network: MaskNetwork, *, chunk_steps: int) -> bytes:
    """The mask network: `power` [b, bands, chunk], `query` [b, q, d] to `logits` [b, q, bands, chunk], `presence`.

    Numbers of chunks and queries are open, the length of a chunk is fixed.
    """
    batch, queries = _open("b"), _open("q")
    power = torch.rand(2, network.n_bands, chunk_steps)
    query = torch.nn.functional.normalize(torch.rand(2, 3, network.query_dimension), dim=-1)
    return _export(
        _Masks(network),
        {"power": power, "query": query},
        outputs=["logits", "presence"],
        shapes={"power": {0: batch}, "query": {0: batch, 1: queries}},
    )


def audio_trunk_graph(trunk: AudioTrunk) -> bytes:
    """Log-mel `patches` [p, 96, 64] to `features` [p, 1024]."""
    return _export(
        _Patches(trunk), {"patches": torch.rand(2, 96, 64)}, outputs=["features"], shapes={"patches": {0: _open("p")}}
    )


def head_graph(head: nn.Module) -> bytes:
    """`features` [b, f] to `query_embedding` [b, d], unit norm."""
    features = torch.rand(2, head.get_buffer("mean").numel())
    return _export(head, {"features": features}, outputs=["query_embedding"], shapes={"features": {0: _open("b")}})


def image_trunk_graph(trunk: ImageTrunk) -> bytes:
    """`pixels` [1, 3, side, side] of one picture to `features` [1, f]."""
    pixels = torch.rand(1, 3, trunk.side, trunk.side)
    return _export(trunk, {"pixels": pixels}, outputs=["features"], shapes={"pixels": {}})


def guesses_graph(head: MixtureHead) -> bytes:
    """`features` [b, f] to `chances` [b, c] of the classes, summing to 1."""
    features = torch.rand(2, head.mean.numel())
    return _export(_Guesses(head), {"features": features}, outputs=["chances"], shapes={"features": {0: _open("b")}})


def text_graph(trunk: TextTrunk, head: nn.Module) -> bytes:
    """`tokens` [1, t] of one text to `query_embedding` [1, d], unit norm."""
    tokens = torch.tensor([[101, 3899, 22085, 102]])
    with _plain_attention():
        return _export(
            _Text(trunk, head),
            {"tokens": tokens},
            outputs=["query_embedding"],
            shapes={"tokens": {1: torch.export.Dim("t", min=2, max=512)}},
        )


def _open(name: str) -> Any:
    return torch.export.Dim(name, min=2, max=_MOST)


def _export(
    module: nn.Module, inputs: dict[str, Float[Tensor, "..."] | Tensor], *, outputs: list[str], shapes: dict[str, Any]
) -> bytes:
    try:
        import onnxscript  # noqa: F401 - what torch translates with; its own message would not name our extra
    except ImportError:
        raise ModelError("Exporting needs onnxscript; run 'pip install marssep[export]'.") from None
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=tuple(shapes[name] for name in inputs),
            opset_version=OPSET,
            dynamo=True,
            optimize=False,  # it takes the unet's `+ 1e-10` for a zero; onnxruntime optimises when it loads
            verbose=False,
        )
    assert program is not None
    made: bytes = program.model_proto.SerializeToString()
    return made


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter speaks of libraries that are not installed and of its own steps."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Without the fused layer, for which ONNX has no operator."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
