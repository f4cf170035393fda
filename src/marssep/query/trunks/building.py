"""Making a network whose weights come from a file: the random ones it would begin with are left out."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class WithoutInitialising(TorchFunctionMode):
    """Modules made in this context have weights that hold anything until `load_state_dict(..., assign=True)`.

    The random numbers for a text encoder of 22 million weights take longer than reading the file. (Building on the
    device `meta` saves them too, but its first use imports sympy, which takes longer still.)
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)
