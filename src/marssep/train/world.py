"""The processes of a training run: what they share, what they average, and what is left to the first of them.

The one door to Accelerate. Every helper does nothing in a world of one process, and none of them decides anything by
the clock or by chance of one process alone: all processes draw from random generators in the same state.
"""

import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any, Literal

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import InitProcessGroupKwargs
from jaxtyping import Float
from torch import Tensor, nn

from marssep.errors import SettingsError

_SHARDING = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron",
}
_PATIENCE = timedelta(hours=2)  # the others wait while the first process decodes a corpus or validates


def first_process_first() -> AbstractContextManager[Any]:
    """Inside, the first process goes ahead and the others follow when it is done: for caches that are made once."""
    return PartialState(cpu=_on_cpu(), timeout=_PATIENCE).main_process_first()


def leave_together(last_words: str, *, code: int = 0) -> int:
    """Say how a run went, once, and end it: several processes wait for each other and end without tidying up.

    The interpreter's way out is not safe with the threads of a process group: a process whose work was done and saved
    was now and then aborted there ("terminate called without an active exception"), and the run counted as failed.

    Args:
        last_words: what the first process prints.
        code: exit code of the first process; given back if it is the only one.
    """
    state = PartialState(cpu=_on_cpu())
    if state.num_processes > 1:
        torch.distributed.barrier()
    if state.process_index == 0:
        sys.stdout.write(f"{last_words}\n")
    if state.num_processes > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if state.process_index == 0 else 0)
    return code


def _refuse_sharding() -> None:
    for variable, name in _SHARDING.items():
        if os.environ.get(variable, "").lower() in {"1", "true", "yes"}:
            raise SettingsError(
                f"{name}: the launcher wants the network in pieces ({variable}), but networks here are small and every "
                "process holds all of theirs; launch with '--multi_gpu' instead."
            )


@dataclasses.dataclass
class Share:
    """Which rows of a batch this process holds; kept by layers that draw random numbers or take statistics.

    Attributes:
        rank: number of the process.
        size: how many there are.
        span: rows before the own ones and rows in all, where they are not equal parts; None: equal parts.
    """

    rank: int = 0
    size: int = 1
    span: tuple[int, int] | None = None

    def draw(self, rows: int, make: Callable[[int], Tensor]) -> Tensor:
        """Own rows of a random tensor that is drawn for all processes alike.

        Args:
            rows: own rows.
            make: gives a random tensor of so many rows.
        """
        before, total = self.span or (self.rank * rows, self.size * rows)
        return make(total)[before : before + rows]


class World:
    """One process's view of all of them.

    Args:
        precision: autocast of the forward pass.

    Raises:
        SettingsError: if the launcher wants the network in pieces.
    """

    def __init__(self, precision: Literal["no", "bf16"] = "no") -> None:
        _refuse_sharding()
        patient = InitProcessGroupKwargs(timeout=_PATIENCE)
        # Accelerate keeps one precision for all programs of an interpreter, so autocast is ours.
        self.accelerator = Accelerator(mixed_precision="no", cpu=_on_cpu(), kwargs_handlers=[patient])
        self.precision = precision
        self.rank, self.size = self.accelerator.process_index, self.accelerator.num_processes
        self.device: torch.device = self.accelerator.device
        self.share = Share(self.rank, self.size)
        torch.backends.cudnn.benchmark = True  # the batches of a run have one shape, so trying kernels pays

    @property
    def is_main(self) -> bool:
        """Whether this is the process that validates and writes."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[Any]:
        """For the forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def average(self, value: Tensor) -> Tensor:
        """Mean over processes, without gradient: for normalisers and figures."""
        if self.size == 1:
            return value
        total = value.detach().clone()
        torch.distributed.all_reduce(total)
        return total / self.size

    def gather(self, value: Tensor) -> Tensor:
        """The equal parts of all processes, one after another along the first axis, without gradient."""
        if self.size == 1:
            return value
        whole = value.new_zeros((self.size * len(value), *value.shape[1:]))
        whole[self.own(len(value))] = value.detach()
        torch.distributed.all_reduce(whole)
        return whole

    def own(self, rows: int) -> slice:
        """Where this process's part of so many rows lies in what `gather` gives."""
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def rows(self, function: Callable[[Tensor], Tensor], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """`function(inputs)`, every process doing its part of the rows; all get all rows, with gradients.

        If every process then takes the same loss of all rows and gradients are averaged, they are those of one process.

        Args:
            function: of rows that do not know of each other.
            inputs: the same on all processes.
        """
        if self.size == 1:
            return function(inputs)
        edges = [len(inputs) * rank // self.size for rank in range(self.size + 1)]
        low, high = edges[self.rank], edges[self.rank + 1]
        self.share.span = (low, len(inputs))
        try:
            own = function(inputs[low:high])
        finally:
            self.share.span = None
        before, after = own.new_zeros(low, *own.shape[1:]), own.new_zeros(len(inputs) - high, *own.shape[1:])
        return _sum(torch.cat([before, own, after]))

    def whole(self, function: Callable[[Tensor], Tensor], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """`function(inputs)` done by every process alike, down to the random numbers of its layers."""
        self.share.span = (0, len(inputs))
        try:
            return function(inputs)
        finally:
            self.share.span = None

    def agree(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """The first process's clock, and whether any process wants to stop: the same answer everywhere."""
        if self.size == 1:
            return seconds, stop
        said = torch.tensor([seconds if self.is_main else 0.0, float(stop)], dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(said)
        return float(said[0]), bool(said[1] > 0)

    def split_batch(self, batch_size: int, accumulation: int) -> int:
        """Rows of one process in one pass.

        Raises:
            SettingsError: if the batch has no such equal parts.
        """
        parts = self.size * accumulation
        if batch_size % parts:
            raise SettingsError(
                f"batch_size = {batch_size} is the batch of all processes and cannot be divided by {self.size} "
                f"process(es) times accumulation = {accumulation}; choose a multiple of {parts}."
            )
        return batch_size // parts

    def synchronise(self, network: nn.Module, *, statistics: bool = True) -> None:
        """Make dropout draw for the batch of all processes and, if asked, batch norms take its statistics, in place."""
        for name, child in network.named_children():
            if type(child) is nn.Dropout:
                setattr(network, name, WorldDropout(child.p, self.share))
            elif type(child) is nn.BatchNorm2d and statistics and self.size > 1:
                # torch's own needs a GPU; ours works with gloo.
                kind = nn.SyncBatchNorm if self.device.type == "cuda" else WorldBatchNorm2d
                made = kind(child.num_features, child.eps, child.momentum)
                made.load_state_dict(child.state_dict())
                if isinstance(made, WorldBatchNorm2d):
                    made.share = self.share
                setattr(network, name, made)
            else:
                self.synchronise(child, statistics=statistics)

    @contextmanager
    def partial_pass(self, network: nn.Module, *, last: bool) -> Iterator[None]:
        """A forward and backward pass whose gradients are added up, and averaged over processes in the last one."""
        if last or self.size == 1:
            yield
            return
        with self.accelerator.no_sync(network):
            yield


class WorldDropout(nn.Dropout):
    """Dropout whose mask is drawn for the batch of all processes, so that their number does not change it."""

    def __init__(self, p: float, share: Share) -> None:
        super().__init__(p)
        self.share = share

    def forward(self, input: Tensor) -> Tensor:
        """As `nn.Dropout`; the first axis is the batch."""
        if not self.training or self.p == 0:
            return input
        kept = self.share.draw(len(input), lambda n: input.new_empty(n, *input.shape[1:]).bernoulli_(1.0 - self.p))
        return input * kept / (1.0 - self.p)


class WorldBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with the statistics of all processes' equal parts of the batch, on any backend."""

    share = Share()

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """As `nn.BatchNorm2d` on the batch of all processes; statistics in float32."""
        if not self.training:
            return super().forward(input)
        hidden = input.float()
        variance, mean = torch.var_mean(hidden, dim=(0, 2, 3), correction=0)
        own = torch.stack([mean, variance])[None]
        before = own.new_zeros(self.share.rank, *own.shape[1:])
        after = own.new_zeros(self.share.size - self.share.rank - 1, *own.shape[1:])
        means, variances = _sum(torch.cat([before, own, after])).unbind(1)
        mean = means.mean(0)
        # Means and variances of the parts: sums of squares would cancel where the mean is large.
        variance = variances.mean(0) + (means - mean).square().mean(0)
        self._track(mean.detach(), variance.detach(), count=self.share.size * input.numel() // input.shape[1])
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return (hidden * scale[:, None, None] + shift[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, *, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


class _Sum(torch.autograd.Function):
    """Sum over processes, whose gradient is the sum of all their gradients."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total


def _sum(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total


def _on_cpu() -> bool:
    return not torch.cuda.is_available()
