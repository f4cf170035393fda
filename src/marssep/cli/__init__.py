"""The command line: `marssep`; every command is its own file and is imported only when it is asked for."""

import io
import logging
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from marssep import __version__
from marssep.errors import MarssepError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

app = App(
    name="marssep",
    help="Ask for a sound by words, by example, by picture, or by any mix of them, and get it out of any recording.",
    version=__version__,
    suppress_keyboard_interrupt=False,
)
_COMMANDS = {
    "separate": ("marssep.cli.separate:separate", "Get a sound out of recordings."),
    "separate-corpus": (
        "marssep.cli.separate_corpus:separate_corpus",
        "Get a sound out of every recording of an archive.",
    ),
    "probe": ("marssep.cli.probe:probe", "Say whether a sound is in a recording, and when."),
    "demo": ("marssep.cli.demo:demo", "Separate the included recording and compare with the truth."),
    "models": ("marssep.cli.models:app", "Fetch encoder weights; describe models."),
    "data": ("marssep.cli.data:app", "Build, pack and check corpora."),
    "train": ("marssep.cli.train:app", "Train a separator, the query encoder's heads or the reward encoder."),
    "evaluate": ("marssep.cli.evaluate:evaluate", "Score models and anybody's outputs on the mixtures of a protocol."),
    "report": ("marssep.cli.report:report", "Print results as tables, or write them as one HTML file."),
    "study": ("marssep.cli.study:app", "Run an experiment with all its controls."),
    "reward-report": (
        "marssep.cli.reward_report:reward_report",
        "How far the rewards can be trusted, stage by stage.",
    ),
    "doctor": ("marssep.cli.doctor:doctor", "Is everything here that separating needs?"),
    "bench": ("marssep.cli.bench:bench", "Speed, memory and exactness of separating a recording here."),
    "export": ("marssep.cli.export:export", "Write a model as ONNX for the runtime without torch."),
    "runtime": ("marssep.cli.runtime:runtime", "Separate with an exported model; nothing imports torch."),
    "listen": ("marssep.cli.listen:app", "Listening tests: serve, export, analyse."),
}
for _name, (_path, _help) in _COMMANDS.items():
    app.command(_path, name=_name, help=_help)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 failed, 2 wrong usage; results go to standard output, the rest to error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may be no text
    logging.basicConfig(level=logging.WARNING, format="marssep: %(message)s", stream=sys.stderr)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; what a person can mend is one sentence on standard error."""
    try:
        # Our own argument list would otherwise be taken for the interpreter's when it is empty.
        tokens = sys.argv[1:] if arguments is None else list(arguments)
        result = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except MarssepError as error:
        print(f"marssep: {error}", file=sys.stderr)
        return error.exit_code
    except CycloptsError as error:
        print(f"marssep: {error}\nTry 'marssep --help'.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("marssep: stopped.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has left, as in `marssep ... | head`
        sys.stderr.close()
        return 1
    return result if isinstance(result, int) else 0
