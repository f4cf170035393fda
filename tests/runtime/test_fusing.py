"""Kinds of one query are weighed alike by both engines."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from marssep.errors import UsageError
from marssep.query import fuse as fuse_in_torch
from marssep.runtime.fusing import MODALITIES, fuse, shares

kinds = st.sets(st.sampled_from(MODALITIES), min_size=1)
weights = st.dictionaries(st.sampled_from(MODALITIES), st.floats(0.01, 5.0))


@given(kinds, weights, st.integers(0, 99))
def test_both_engines_fuse_alike(given_kinds, weighed, seed):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((3, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    places = {kind: rows[MODALITIES.index(kind)] for kind in sorted(given_kinds)}
    made = fuse(places, weighed)
    theirs = fuse_in_torch({kind: torch.from_numpy(place) for kind, place in places.items()}, weighed)
    np.testing.assert_allclose(made, theirs, atol=1e-6)
    parts = shares(places, weighed)
    assert sum(parts.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [{"text": -1.0}, {"text": 0.0}, {"text": float("inf")}])
def test_weights_that_do_not_fit(bad):
    with pytest.raises(UsageError, match="query weights"):
        shares(["text"], bad)
