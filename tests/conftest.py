"""Every annotation of marssep, tensor shapes included, is checked while the tests run."""

import os
import sys
import types
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

from beartype import BeartypeConf, beartype
from beartype.door import is_bearable
from beartype.roar import BeartypeException
from jaxtyping import install_import_hook

_CONF = BeartypeConf(is_pep484_tower=True)  # an int is good where a float is asked for, as for mypy


def _check(function):
    """Check every hint that can be checked at run time; `Self` and static protocols are left to mypy."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if _checkable(hint)}
    return beartype(function, conf=_CONF)


def _checkable(hint):
    try:
        is_bearable(None, hint, conf=_CONF)
    except BeartypeException:
        return False
    return True


# The hook wants the checker's import path, and conftest files have none.
sys.modules["marssep_shape_checks"] = types.ModuleType("marssep_shape_checks")
sys.modules["marssep_shape_checks"].check = _check
install_import_hook("marssep", "marssep_shape_checks.check")

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# The first call into torch takes half a second; the same examples every time keep CI calm.
settings.register_profile("marssep", deadline=None, derandomize=True, max_examples=25, print_blob=True)
settings.load_profile("marssep")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Folder of a small seeded network for the encoder `tiny`."""
    from marssep.model import ModelConfig, build_network, save_model

    config = ModelConfig(encoder="tiny", query_dimension=16, chunk_steps=32, network={"channels": (8, 8, 16)})
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = build_network(config)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(folder, network, config, card={"classes": ["dog", "rain"], "licences": {"made here": "CC0-1.0"}})
    return folder


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def marssep(capsys):
    """Run `marssep ARGUMENTS...` and return exit code, standard output and standard error."""

    from marssep.cli import run

    def call(*arguments):
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call
