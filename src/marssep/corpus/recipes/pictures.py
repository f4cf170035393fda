"""Pictures of the classes: emoji in many styles from icon packages, and the pictures of children's programs."""

import hashlib
import io
import json
import logging
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from marssep.corpus.labels import load_classes
from marssep.corpus.recipes.building import PICTURE_SIZE, CorpusBuilder, Origin
from marssep.corpus.recipes.packages import Package, need_program, present_files, read_table
from marssep.errors import CorpusError

SPLIT_OF_STYLE = {
    "fluent-emoji": "test",
    "fluent-emoji-flat": "test",
    "fluent-emoji-3d": "test",
    "qabcs-data": "test",
    "openmoji": "val",
}
"""Art families outside training; Fluent's three styles are the same drawings and stay together."""

HALVED = {"tuxpaint-stamps-default", "gcompris-qt-data"}
"""Packages of photos and drawings, halved between train and test by a hash of the picture's name."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Picture:
    label: str
    style: str
    name: str
    source: str
    licence: str
    svg: bytes | None
    path: Path | None


def add_pictures(builder: CorpusBuilder, packages: Path, listed: dict[str, Package]) -> int:
    """Add every picture to the corpus.

    Returns:
        how many were added; those that no program can draw are skipped with a warning.
    """
    need_program("rsvg-convert", package="librsvg2-bin")
    pictures = [*_emoji(packages, listed), *_game_icons(packages, listed), *_package_pictures(packages, listed)]
    # Some styles draw two code points alike; the same drawing twice would weigh double.
    unique = {(picture.label, picture.svg or picture.path): picture for picture in pictures}

    def add(picture: _Picture) -> bool:
        try:
            image = _draw(picture)
        except (OSError, CorpusError) as error:
            logger.warning("picture %s skipped: %s", picture.source, error)
            return False
        origin = Origin(
            label=picture.label,
            split=split_of_picture(picture.style, picture.name),
            recording=f"{picture.style}/{picture.name}" if picture.style in HALVED else picture.style,
            source=picture.source,
            licence=picture.licence,
            key=f"{picture.style}-{picture.name}",
        )
        return builder.add_picture(image, origin) is not None

    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(add, unique.values()))


def split_of_picture(style: str, name: str) -> str:
    """The split of a picture: by art family, and by name for the halved packages."""
    if style in HALVED:
        return "test" if hashlib.sha256(name.encode()).digest()[0] % 2 else "train"
    return SPLIT_OF_STYLE.get(style, "train")


def _emoji(packages: Path, listed: dict[str, Package]) -> Iterator[_Picture]:
    names = _emoji_names(packages / "emojibase-data" / "package")
    styles = [package for name, package in listed.items() if name.startswith("@iconify-json/")]
    for package in styles:
        style = package.name.split("/")[1]
        if style == "game-icons":
            continue
        icons = json.loads((packages / package.folder / "package" / "icons.json").read_text(encoding="utf-8"))
        for sound in load_classes().values():
            for code in sound.emoji:
                svg = next((svg for name in names.get(code, [code]) if (svg := _icon(icons, name))), None)
                if svg is not None:
                    source = f"{package.name}/{code}"
                    yield _Picture(sound.label, style, code, source, package.licence, svg.encode(), None)
    package = listed["@lobehub/fluent-emoji-3d"]
    for sound in load_classes().values():
        for code in sound.emoji:
            path = packages / package.folder / "package" / "assets" / f"{code}.webp"
            if path.is_file():
                source = f"{package.name}/{code}"
                yield _Picture(sound.label, "fluent-emoji-3d", code, source, package.licence, None, path)


def _game_icons(packages: Path, listed: dict[str, Package]) -> Iterator[_Picture]:
    package = listed["@iconify-json/game-icons"]
    icons = json.loads((packages / package.folder / "package" / "icons.json").read_text(encoding="utf-8"))
    for row in read_table("open_pictures.csv"):
        if row["package"] == package.name and (svg := _icon(icons, row["path"])):
            svg = svg.replace("currentColor", "#000")
            source = f"{package.name}/{row['path']}"
            yield _Picture(row["label"], "game-icons", row["path"], source, package.licence, svg.encode(), None)


def _package_pictures(packages: Path, listed: dict[str, Package]) -> Iterator[_Picture]:
    rows = [row for row in read_table("open_pictures.csv") if listed[row["package"]].kind == "deb"]
    for row in present_files(rows, packages, listed):
        package = listed[row["package"]]
        path = packages / package.folder / row["path"]
        name = f"{path.stem}-{hashlib.sha256(row['path'].encode()).hexdigest()[:4]}"
        source = f"{package.name}/{row['path']}"
        yield _Picture(row["label"], package.name, name, source, package.licence, None, path)


def _draw(picture: _Picture) -> Image.Image:
    if picture.svg is None and picture.path is not None and picture.path.suffix not in {".svg", ".svgz"}:
        return Image.open(picture.path)
    size = str(PICTURE_SIZE)
    command = ["rsvg-convert", "-w", size, "-h", size, "-a", "-b", "white"]
    if picture.path is not None:
        command.append(str(picture.path))
    done = subprocess.run(command, input=picture.svg, capture_output=True, check=False)
    if done.returncode != 0:
        raise CorpusError(f"{picture.source}: rsvg-convert could not draw it ({done.stderr.decode()[:200].strip()}).")
    return Image.open(io.BytesIO(done.stdout))


def _emoji_names(folder: Path) -> dict[str, list[str]]:
    """Names under which icon packages may keep a code point."""
    rows = json.loads((folder / "en" / "data.json").read_text(encoding="utf-8"))
    shortcodes = json.loads((folder / "en" / "shortcodes" / "cldr.json").read_text(encoding="utf-8"))
    names: dict[str, list[str]] = {}
    for row in rows:
        code = row["hexcode"].lower()
        short = shortcodes.get(row["hexcode"], "")
        label = row["label"].lower().replace(":", "").replace("’", "").replace(" ", "-")
        names[code] = [(short if isinstance(short, str) else short[0]).replace("_", "-"), label, code]
    return names


def _icon(icons: dict[str, Any], name: str) -> str | None:
    body = icons["icons"].get(name)
    if body is None and name in icons.get("aliases", {}):
        body = icons["icons"].get(icons["aliases"][name]["parent"])
    if body is None:
        return None
    width, height = (body.get(side, icons.get(side, 16)) for side in ("width", "height"))
    box = f"{body.get('left', 0)} {body.get('top', 0)} {width} {height}"
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} width="{PICTURE_SIZE}" height="{PICTURE_SIZE}" viewBox="{box}">{body["body"]}</svg>'
