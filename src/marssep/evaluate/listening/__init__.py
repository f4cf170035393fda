"""Listening tests: blind MUSHRA and A/B studies of kept recordings, served to browsers, and what the answers say.

The server is in `server`, apart, because it alone needs the extra `listen`.
"""

from pathlib import Path

from marssep.evaluate.kept import read_kept
from marssep.evaluate.listening.analysis import analyse
from marssep.evaluate.listening.desk import Desk, RefusedError
from marssep.evaluate.listening.report import MushraReport, PreferenceReport, write_report
from marssep.evaluate.listening.stimuli import Prepared, checksum, prepare
from marssep.evaluate.listening.store import Store
from marssep.evaluate.listening.study import Kind, Study, choose_items, trials

__all__ = [
    "Desk",
    "Kind",
    "MushraReport",
    "PreferenceReport",
    "Prepared",
    "RefusedError",
    "Store",
    "Study",
    "analyse",
    "choose_items",
    "open_desk",
    "trials",
    "write_report",
]


def open_desk(
    run: Path, db: Path, *, kind: Kind, systems: list[str] | None = None, n_items: int | None = None, seed: int = 0
) -> Desk:
    """Make a study of a run folder, or go on with it, and return what serves it.

    Args:
        run: folder with `items.jsonl`.
        db: file for the answers.
        kind: `mushra` or `ab`.
        systems: those to compare; None takes all that every item has.
        n_items: how many items, drawn at random; None takes all.
        seed: draws the items and every order.

    Raises:
        InputError: if the run is broken or an item silent.
        UsageError: if the choice of systems or items is impossible, or the file holds another study.
        OutputError: if the file cannot be written.
    """
    items, chosen = choose_items(read_kept(run), systems=systems, n=n_items, seed=seed)
    prepared = [prepare(run, item, chosen) for item in items]
    study = Study(
        kind=kind,
        seed=seed,
        items=tuple(item.name for item in items),
        systems=chosen,
        sha256=checksum(prepared),
    )
    trials(study, "")  # fails now rather than at the first rater if nothing can be compared
    return Desk(Store.create(db, study, items), prepared)
