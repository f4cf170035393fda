"""A few hundred broken recordings of every format: read or refused in our own words, soon, with nothing half-written.

The long run is `benchmarks/fuzz_audio.py` (`results/fuzz.json`); this is its code on a seed of its own.
"""

import importlib.util
import os
import random
from pathlib import Path

import pytest

PLACE = Path(__file__).parents[2] / "benchmarks" / "fuzz_audio.py"
CASES, SEED = 600, 6


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz_audio", PLACE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in forked processes")
def test_broken_recordings_are_read_or_refused(fuzz, monkeypatch):
    monkeypatch.setattr(fuzz, "SEPARATED", 30)
    report = fuzz.run(CASES, seed=SEED)
    assert report["failures"] == []
    assert report["cases"] == CASES == sum(report["outcomes"].values())
    # All of these would be missing if mutations were too mild, too wild, or did not reach a separation.
    assert min(report["outcomes"][each] for each in ("read", "refused", "separated")) >= 10
    assert set(report["formats"]) >= {f"{kind}/{subtype}" for kind, subtype in fuzz.SNDFILE}
    assert all(sum(each.values()) for each in report["formats"].values())


def test_cases_are_the_same_every_time(fuzz):
    data = bytes(range(256)) * 4
    once, again, other = (fuzz.mutate(data, random.Random(seed), data[::-1]) for seed in (1, 1, 2))
    assert once == again != other


@pytest.mark.parametrize(("error", "why"), [(ValueError("no"), "wrong exception"), (SystemExit(3), "wrong exception")])
def test_what_must_not_happen_is_counted(fuzz, monkeypatch, error, why):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(fuzz, "AudioFile", broken)
    bases = {"a": b"0123456789"}
    name, outcome, detail = fuzz.one_case(bases, ["a"], 0, 1, None)
    assert (name, outcome) == ("a", why)
    assert type(error).__name__ in detail
