"""The guard: hacking, blur and constancy stop a run, with the reason; honest progress does not."""

import pytest

from marssep.policy.guard import Guard, GuardSettings, Watched

FIRST = Watched(reward=0.5, judge=0.6, contrast=0.35, variation=0.3)


def _guard() -> Guard:
    guard = Guard(GuardSettings())
    assert guard.check(FIRST) is None
    return guard


@pytest.mark.parametrize(
    ("watched", "reason"),
    [
        (Watched(0.9, 0.5, 0.35, 0.3), "hacked"),
        (Watched(0.4, 0.6, 0.2, 0.3), "one half"),
        (Watched(0.6, 0.6, 0.35, 0.05), "constant"),
        (Watched(0.9, 0.7, 0.36, 0.31), None),
        (Watched(0.4, 0.5, 0.35, 0.3), None),  # both fall: bad, but not hacking
        (Watched(0.9, None, 0.35, 0.3), None),
    ],
)
def test_reasons(watched, reason):
    found = _guard().check(watched)
    assert found is None if reason is None else reason in found
