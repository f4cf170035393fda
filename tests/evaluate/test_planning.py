"""The planning benchmark: without trouble the simulation is arithmetic, trouble costs time, and a seed decides it."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

QUIET = ["jitter=0", "slow_share=0", "device_mtbf_hours=1e12", "worker_mtbf_hours=1e12", "repeats=3"]
MEASURED = {
    "batch_size": 128,
    "steps": 1000,
    "gflop_per_mixture": 10.0,
    "core_seconds_per_mixture": 0.5,
    "mixtures_per_second_to_draw": 100.0,
    "reinforced_over_supervised": 2.0,
    "gpu_mixtures_per_second": 1280.0,
    "worker_seconds_per_audio_second": 0.05,
}


@pytest.fixture(scope="module")
def planning() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "planning.py"
    spec = importlib.util.spec_from_file_location("planning", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_trouble_it_is_arithmetic(planning: ModuleType) -> None:
    quiet = planning.assume([*QUIET, "archive_hours=1000"])
    assert planning.simulate_training(quiet, 0.5, 7200, seed=0) == pytest.approx(1.0)
    assert planning.simulate_archive(quiet, 0.05, 10, seed=0) == pytest.approx(5.0)


@pytest.mark.parametrize("trouble", ["jitter=0.1", "device_mtbf_hours=4", "slow_share=1"])
def test_trouble_in_training_costs_time(planning: ModuleType, trouble: str) -> None:
    assumed = planning.assume([*QUIET, trouble])

    def simulate(seed: int) -> float:
        return planning.simulate_training(assumed, 0.5, 7200, seed=seed)

    assert planning.repeated(assumed, simulate)["hours"] > 1.02
    assert simulate(1) == simulate(1)


@pytest.mark.parametrize("trouble", ["worker_mtbf_hours=2", "slow_share=0.5", "jitter=1"])
def test_trouble_in_an_archive_costs_time(planning: ModuleType, trouble: str) -> None:
    assumed = planning.assume([*QUIET, "archive_hours=1000", trouble])

    def simulate(seed: int) -> float:
        return planning.simulate_archive(assumed, 0.05, 10, seed=seed)

    assert planning.repeated(assumed, simulate)["hours"] > 5.1
    assert simulate(1) == simulate(1)


def test_a_lost_file_is_done_again_after_it_was_lost(planning: ModuleType) -> None:
    """Two files on two workers, one of which dies half-way: the other does its own, then the lost one."""
    assumed = planning.assume([*QUIET, "archive_hours=2", "restart_minutes=600"])
    failures = {"first": 0.5, "never": 1e9}

    class Chance:
        def random(self, n: int):
            return planning.np.ones(n)

        def exponential(self, scale: float, n: int | None = None):
            return failures["never"] if n is None else planning.np.array([failures["first"], failures["never"]])

        def standard_normal(self, n: int):
            return planning.np.zeros(n)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning.np.random, "default_rng", lambda _: Chance())
        assert planning.simulate_archive(assumed, 1.0, 2, seed=0) == pytest.approx(2.0)


def test_plans_scale_and_nonsense_is_refused(planning: ModuleType) -> None:
    quiet = planning.assume([*QUIET, "devices=8", "gpu_price=3", "archive_hours=20000", "reinforce_steps=100"])
    plan = planning.plan_training(quiet, MEASURED)
    assert plan["core_days"] == pytest.approx(128 * 1000 * 0.5 / 86400, abs=0.1)
    assert plan["reinforce_share"] == pytest.approx(0.2)
    assert plan["one_gpu_hours"] == pytest.approx(100 / 3600, abs=0.01)
    assert [row["mixtures_per_second_of_a_gpu"] for row in plan["by_rate"]] == [100, 300, 1280.0, 3000]
    row = plan["by_rate"][0]
    assert row["mixtures_per_second_of_a_gpu"] == 100
    assert row["ideal_hours"] == row["hours"] == pytest.approx(128 * 1000 / 800 / 3600, abs=0.01)
    assert row["tflop_per_second_it_takes"] == pytest.approx(1.0)
    assert row["cores_to_draw_mixtures"] == pytest.approx(8.0)
    archive = planning.plan_archive(quiet, MEASURED)
    assert archive["core_hours"] == 1000
    assert archive["by_workers"][0]["hours"] == pytest.approx(10.0)
    with pytest.raises(SystemExit, match="no such assumption"):
        planning.assume(["gpus=3"])
    with pytest.raises(SystemExit, match="before they reach a checkpoint"):
        planning.simulate_training(planning.assume(["device_mtbf_hours=0.01"]), 1.0, 5000, seed=0)
    with pytest.raises(SystemExit, match="before a file is done"):
        planning.simulate_archive(planning.assume(["worker_mtbf_hours=0.001"]), 0.05, 5, seed=0)
