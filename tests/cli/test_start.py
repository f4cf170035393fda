"""The command line starts fast: help and the package itself leave torch alone."""

import subprocess
import sys

import pytest

import marssep as package
from marssep.cli import app

_HEAVY = {"torch", "numpy", "soundfile", "matplotlib", "PIL", "pydantic"}


def _modules_after(code):
    script = f"import sys\n{code}\nprint(' '.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_package_is_light_and_silent():
    assert not _HEAVY & _modules_after("import marssep")


@pytest.mark.parametrize("arguments", [["--help"], ["separate", "--help"], ["train", "--help"], ["models", "--help"]])
def test_help_does_not_wait_for_torch(arguments):
    code = f"from marssep.cli import run\nassert run({arguments!r}) == 0"
    assert not {"torch", "matplotlib"} & _modules_after(code)


def test_loading_a_separator_does_not_wait_for_what_it_does_not_use(tiny_model):
    code = f"from marssep import Separator\nSeparator.load({str(tiny_model)!r})"
    heavy = {"sympy", "scipy", "scipy.ndimage", "matplotlib", "marssep.runtime.runtime"}
    assert not heavy & _modules_after(code)


def test_every_command_has_help(marssep):
    ran = marssep("--help")
    assert ran.code == 0
    for name in ("separate", "demo", "models", "data", "train", "evaluate"):
        assert name in ran.out
        assert marssep(name, "--help").code == 0


def test_version(marssep):
    assert marssep("--version").out.strip() == package.__version__


def test_public_names_are_there():
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) == set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'Seperator'"):
        package.Seperator  # noqa: B018


def test_commands_are_imported_on_demand():
    assert app.name == ("marssep",)
