"""`marssep listen`: let people rate what systems gave, blind, in a browser; export and analyse their answers."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Group, Parameter

from marssep.errors import UsageError

app = App(name="listen", help="Listening tests: serve a blind MUSHRA or A/B study, export and analyse the answers.")
_SERVER = Group("Server")


@Parameter(name="*", group=_SERVER)
@dataclass(frozen=True)
class Address:
    """Where the page is.

    Attributes:
        host: Address to listen on; 0.0.0.0 lets other machines in.
        port: Port to listen on; 0 takes a free one.
    """

    host: str = "127.0.0.1"
    port: int = 0


@app.command
def serve(
    run: Path,
    *,
    study: Literal["mushra", "ab"] = "mushra",
    db: Path = Path("ratings.sqlite"),
    items: int | None = None,
    seed: int = 0,
    systems: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    address: Address | None = None,
) -> None:
    """Serve a blind study of what 'marssep evaluate --keep-audio' wrote, until Ctrl-C; no saved answer is lost.

    A rater who comes back under the same name goes on at the first page not answered, also after a restart.

    Args:
        run: Run folder with items.jsonl.
        study: mushra (scores from 0 to 100) or ab (which of two).
        db: SQLite file for the answers; made if missing.
        items: How many items, drawn at random; by default all.
        seed: Draws the items and, with a rater's name, every order.
        systems: Systems to compare; by default all that every item has.
        address: Where the page is.
    """
    address = address or Address()
    try:
        from marssep.evaluate.listening.server import allowed_hosts, build_app, listen_on, make_server
    except ImportError as error:
        raise UsageError(f"Listening studies need {error.name}; run 'pip install marssep[listen]'.") from None
    from marssep.evaluate.listening import open_desk

    desk = open_desk(run, db, kind=study, systems=systems, n_items=items, seed=seed)
    with listen_on(address.host, address.port) as bound:
        port = bound.getsockname()[1]
        shown = "localhost" if address.host in ("127.0.0.1", "0.0.0.0", "::") else address.host  # noqa: S104
        print(f"http://{shown}:{port}/", flush=True)
        about = f"{len(desk.study.items)} items, systems {', '.join(desk.study.systems)}; answers go to {db}"
        print(f"{about}; Ctrl-C ends.", file=sys.stderr)
        make_server(build_app(desk, hosts=allowed_hosts(address.host))).run(sockets=[bound])


@app.command
def export(
    *, db: Path = Path("ratings.sqlite"), output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None
) -> None:
    """Write every answer as it was given to a CSV file.

    Args:
        db: File that 'marssep listen serve' wrote.
        output: CSV file; by default standard output.
    """
    from marssep.evaluate.listening.store import Store

    table = Store.open(db).csv()
    if output is None:
        print(table, end="")
        return
    from marssep.evaluate.results import write_text

    write_text(output, table)


@app.command
def analyse(
    *,
    db: Path = Path("ratings.sqlite"),
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    seed: int = 0,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), show_default=False)] = False,
) -> None:
    """Means, differences and preferences with 95 % intervals; raters who fail the screening are named and left out.

    Args:
        db: File that 'marssep listen serve' wrote; its answers are not changed.
        output: JSON file for the figures, such as results/listening.json.
        seed: Of the bootstrap.
        as_json: Print the figures as JSON.
    """
    from marssep.evaluate.listening import Store, write_report
    from marssep.evaluate.listening import analyse as run

    report = run(Store.open(db), seed=seed)
    if output is not None:
        write_report(output, report)
    print(report.model_dump_json(indent=1) if as_json else "\n".join(report.lines()))
