"""Answers in one SQLite file: each is on the disk before the rater sees the next page."""

import contextlib
import csv
import io
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from marssep.errors import InputError, OutputError, UsageError
from marssep.evaluate.kept import KeptItem
from marssep.evaluate.listening.study import Study

_SCHEMA = """
CREATE TABLE IF NOT EXISTS study (only INTEGER PRIMARY KEY CHECK (only = 1), definition TEXT NOT NULL,
    secret TEXT NOT NULL, begun_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS items (item TEXT PRIMARY KEY, label TEXT NOT NULL, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS raters (rater TEXT PRIMARY KEY, joined_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS scores (
    rater TEXT NOT NULL REFERENCES raters, item TEXT NOT NULL REFERENCES items, stimulus TEXT NOT NULL,
    score REAL NOT NULL CHECK (score BETWEEN 0 AND 100), position INTEGER NOT NULL, answered_at TEXT NOT NULL,
    PRIMARY KEY (rater, item, stimulus));
CREATE TABLE IF NOT EXISTS preferences (
    rater TEXT NOT NULL REFERENCES raters, item TEXT NOT NULL REFERENCES items,
    system_a TEXT NOT NULL, system_b TEXT NOT NULL, choice TEXT NOT NULL CHECK (choice IN ('a', 'b', 'none')),
    answered_at TEXT NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS one_answer_a_pair ON preferences
    (rater, item, min(system_a, system_b), max(system_a, system_b));
"""


@dataclass(frozen=True, slots=True)
class Score:
    """What one rater gave one sound, 0 to 100; `position` is its place on the page, from 0."""

    rater: str
    item: str
    stimulus: str
    score: float
    position: int
    answered_at: str


@dataclass(frozen=True, slots=True)
class Preference:
    """What one rater chose of two: `a`, `b` or `none`."""

    rater: str
    item: str
    system_a: str
    system_b: str
    choice: str
    answered_at: str


class Store:
    """The answers to one study."""

    def __init__(self, path: Path, study: Study, secret: str) -> None:
        self.path = path
        self.study = study
        self.secret = secret
        """Key of the names that the page sees instead of the systems'."""

    @classmethod
    def create(cls, path: Path, study: Study, items: Sequence[KeptItem]) -> "Store":
        """Open a file for a study, making it if there is none.

        Raises:
            UsageError: if the file holds another study.
            OutputError: if it cannot be written or is no database.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _connection(path) as connection:
                connection.executescript(_SCHEMA)
                with connection:
                    connection.execute(
                        "INSERT OR IGNORE INTO study VALUES (1, ?, ?, ?)",
                        (study.model_dump_json(), secrets.token_hex(16), _now()),
                    )
                    rows = [(item.name, item.label, item.text) for item in items]
                    connection.executemany("INSERT OR IGNORE INTO items VALUES (?, ?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            raise OutputError(f"{path}: cannot hold answers ({error}); name another --db.") from None
        store = cls.open(path)
        if store.study != study:
            differing = [name for name in Study.model_fields if getattr(store.study, name) != getattr(study, name)]
            raise UsageError(
                f"{path}: holds answers to another study ({', '.join(differing)} differ); repeat the options that it "
                "was begun with or name another --db."
            )
        return store

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open a file that `create` made.

        Raises:
            InputError: if it is missing or holds no study.
        """
        if not path.is_file():
            raise InputError(f"{path}: no such file; name what 'marssep listen serve --db' wrote.")
        try:
            with _connection(path) as connection:
                definition, secret = connection.execute("SELECT definition, secret FROM study").fetchone()
        except (sqlite3.Error, TypeError):
            raise InputError(f"{path}: holds no listening study; name what 'marssep listen serve' wrote.") from None
        return cls(path, Study.model_validate_json(definition), secret)

    def join(self, rater: str) -> None:
        """Note a rater; one who was here before stays as he is."""
        with _connection(self.path) as connection, connection:
            connection.execute("INSERT OR IGNORE INTO raters VALUES (?, ?)", (rater, _now()))

    def knows(self, rater: str) -> bool:
        """Whether a rater has joined."""
        with _connection(self.path) as connection:
            return connection.execute("SELECT 1 FROM raters WHERE rater = ?", (rater,)).fetchone() is not None

    def add_scores(self, rater: str, item: str, scores: Mapping[str, float]) -> bool:
        """Store one page in one transaction; False if it was answered before, and then nothing changes.

        Args:
            rater: who has joined.
            item: whose page it was.
            scores: 0 to 100 for every stimulus, in the order of the page.
        """
        now = _now()
        rows = [(rater, item, name, float(score), at, now) for at, (name, score) in enumerate(scores.items())]
        return self._insert("INSERT INTO scores VALUES (?, ?, ?, ?, ?, ?)", rows)

    def add_preference(self, rater: str, item: str, pair: tuple[str, str], *, choice: str) -> bool:
        """Store one choice in one transaction; False if the pair was judged before, and then nothing changes."""
        row = (rater, item, *pair, choice, _now())
        return self._insert("INSERT INTO preferences VALUES (?, ?, ?, ?, ?, ?)", [row])

    def scores(self, rater: str | None = None) -> list[Score]:
        """All scores, or one rater's, in the order in which they were given."""
        return [Score(*row) for row in self._rows("scores", rater)]

    def preferences(self, rater: str | None = None) -> list[Preference]:
        """All choices, or one rater's, in the order in which they were given."""
        return [Preference(*row) for row in self._rows("preferences", rater)]

    def csv(self) -> str:
        """Every answer as it was given, one line each, with the query of its item."""
        with _connection(self.path) as connection:
            queries = {item: (label, text) for item, label, text in connection.execute("SELECT * FROM items")}
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        if self.study.kind == "mushra":
            writer.writerow(["rater", "item", "label", "text", "stimulus", "score", "position", "answered_at"])
            for score in self.scores():
                given = (score.stimulus, score.score, score.position, score.answered_at)
                writer.writerow([score.rater, score.item, *queries[score.item], *given])
        else:
            writer.writerow(["rater", "item", "label", "text", "system_a", "system_b", "choice", "answered_at"])
            for one in self.preferences():
                chosen = (one.system_a, one.system_b, one.choice, one.answered_at)
                writer.writerow([one.rater, one.item, *queries[one.item], *chosen])
        return out.getvalue()

    def _insert(self, statement: str, rows: Sequence[tuple[object, ...]]) -> bool:
        try:
            with _connection(self.path) as connection, connection:
                connection.executemany(statement, rows)
        except sqlite3.IntegrityError as error:
            if "UNIQUE" in str(error):
                return False
            raise
        return True

    def _rows(self, table: str, rater: str | None) -> list[tuple]:  # type: ignore[type-arg]
        where, values = ("", ()) if rater is None else (" WHERE rater = ?", (rater,))
        with _connection(self.path) as connection:
            return connection.execute(f"SELECT * FROM {table}{where} ORDER BY rowid", values).fetchall()  # noqa: S608


@contextlib.contextmanager
def _connection(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of its own for each use: any thread may ask, and nothing stays open when the server is stopped."""
    with contextlib.closing(sqlite3.connect(path, timeout=10.0)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # an answer that was thanked for survives a power cut
        connection.execute("PRAGMA foreign_keys = ON")
        yield connection


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
