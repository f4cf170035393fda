"""`marssep data lists`: draw the committed mixture lists again."""

from pathlib import Path

from marssep.errors import CorpusError


def lists(corpus: Path, *, names: list[str] | None = None, check: bool = False) -> None:
    """Draw the committed lists of validation and test mixtures from the corpus they belong to.

    Args:
        corpus: Corpus folder.
        names: Only these lists.
        check: Change nothing; fail if the corpus lacks an item that a committed list names.
    """
    from marssep.corpus.lists import LISTS, RECIPES, check_list, draw_list, read_list, write_list
    from marssep.corpus.store import Corpus

    recordings = Corpus.open(corpus)
    for name in names or list(RECIPES):
        if name not in RECIPES:
            raise CorpusError(f"{name}: no such list; known lists: {', '.join(RECIPES)}.")
        specs = read_list(name) if check else draw_list(name, recordings)
        missing = check_list(specs, recordings)
        if missing:
            raise CorpusError(
                f"list '{name}': {corpus} lacks {len(missing)} of its items, the first is '{missing[0]}'; "
                "build or merge the corpus that the list was drawn from."
            )
        if not check:
            write_list(LISTS / f"{name}.jsonl", specs)
        print(f"{name}: {len(specs)} mixtures")
