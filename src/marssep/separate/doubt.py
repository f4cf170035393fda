"""How far the Beta policy would scatter its masks around the proposal: a map of doubt, as far as it is one.

The spread follows from the proposal alone (it is largest where the mask is one half, and never zero, because the mode
is not the mean), so it says where the network hesitates, not where it errs unawares. `results/uncertainty.json` has how
much of the true error it tells.
"""

from jaxtyping import Float
from torch import Tensor

from marssep.policy.beta import BetaMaskPolicy, ConcentrationSettings

CONCENTRATION = ConcentrationSettings().value
"""k of the policy, the paper's kappa."""


def spread(mask: Float[Tensor, "*cells"], *, concentration: float = CONCENTRATION) -> Float[Tensor, "*cells"]:
    """Standard deviation of the policy whose mode is `mask`, in [0, 0.5].

    Args:
        mask: the proposal, in [0, 1].
        concentration: k; the larger, the less it scatters.
    """
    made: Tensor = BetaMaskPolicy.around(mask, concentration).variance().sqrt()
    return made
