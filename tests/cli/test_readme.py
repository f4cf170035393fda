"""Commands that README and pages show are real ones; those of the README that need no network and no corpus run."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from marssep import Separator
from marssep.audio import write_audio
from marssep.cli import app, run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PAGES = {
    f"{page.stem}: {line.removeprefix('$ ').strip()}": line.removeprefix("$ ").split(" #")[0].split(" | ")[0]
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for block in re.findall(r"```(?:console|bash|sh)?\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.removeprefix("$ ").startswith("marssep ")
}
# The rest needs the network (make), a corpus, or results that are made on release.
_RUN = ("marssep separate", "marssep probe", "marssep models info --preset")


@pytest.fixture
def workplace(tmp_path, monkeypatch, tiny_model):
    """A folder with the files that the README talks about, and a tiny model in place of the shipped one."""
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, 90000)).astype(np.float32)
    for name in ("talk.wav", "field.flac", "dog.wav"):
        write_audio(tmp_path / name, noise, sample_rate=16000)
    Image.new("RGB", (32, 32), "brown").save(tmp_path / "dog.png")
    monkeypatch.chdir(tmp_path)
    tiny = Separator.load(tiny_model)
    monkeypatch.setattr(Separator, "load", classmethod(lambda *_: tiny))
    return tmp_path


def test_the_readme_shows_commands():
    assert {"make demo", "make test"} <= set(COMMANDS)
    assert sum(command.startswith("marssep separate") for command in COMMANDS) >= 5


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make")])
def test_make_targets_exist(command):
    assert re.search(rf"^{command.split()[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("marssep")])
def test_commands_are_understood(command):
    app.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("command", PAGES.values(), ids=PAGES.keys())
def test_commands_of_the_pages_are_understood(command):
    plain = re.sub(r"\[|\]|\.\.\.", "", command)  # what may be left out is in brackets
    app.parse_args(shlex.split(plain)[1:], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith(_RUN)])
def test_commands_run(command, workplace, capsys):
    assert run(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().err == ""


def test_nothing_but_known_tools_is_shown():
    assert {command.split()[0] for command in COMMANDS} == {"make", "marssep"}


@pytest.mark.parametrize("block", PYTHON)
def test_python_examples_run(block, workplace, capsys):
    exec(compile(block, "README.md", "exec"), {})
    assert (workplace / "out").is_dir()
