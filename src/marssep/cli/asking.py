"""What is asked for, as options of a command."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from cyclopts import Group, Parameter

from marssep.errors import UsageError

if TYPE_CHECKING:
    from marssep.query import Query
    from marssep.runtime.fusing import Modality

_QUERY = Group("Query (at least one of text, audio, image, like)")


@Parameter(name="*", group=_QUERY)
@dataclass(frozen=True)
class QueryOptions:
    """What is asked for.

    Attributes:
        text: The sound in words, such as 'dog barking'; give it several times for several sounds in one pass.
        audio: An example of the sound; several are several queries.
        image: A picture of what makes the sound; several are several queries.
        like: Where in the recording itself the sound can be heard, such as 0:03-0:05; several, joined by commas, are
            examples of one sound; given several times, they are several queries.
        weights: Of the kinds in one query, such as text=2,audio=1; by default text=2,image=2,audio=1. That of
            audio also counts for --like.
        negative: A sound, in words, to keep out of the target; give it several times for several sounds.
        negative_in: Where --not works: on the mask's logits, or on the query's embedding.
    """

    text: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    audio: Annotated[tuple[Path, ...], Parameter(negative=())] = ()
    image: Annotated[tuple[Path, ...], Parameter(negative=())] = ()
    like: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    weights: str | None = None
    negative: Annotated[tuple[str, ...], Parameter(name="--not", negative=())] = ()
    negative_in: Annotated[Literal["logits", "embedding"], Parameter(name="--not-in")] = "logits"

    def queries(self) -> "list[Query]":
        """One query of several kinds, or several queries of one kind.

        Raises:
            UsageError: if nothing is asked for, or it is not clear what belongs together.
        """
        from marssep.query import Query, parse_regions

        regions = tuple(parse_regions(each) for each in self.like)
        kinds = {"text": self.text, "audio": self.audio, "image": self.image, "like": regions}
        given: dict[str, tuple[Any, ...]] = {kind: values for kind, values in kinds.items() if values}
        if not given:
            raise UsageError("The query has nothing in it; give --text, --audio, --image or --like.")
        all_have: dict[str, Any] = {
            "negative": self.negative,
            "negative_in": self.negative_in,
            "weights": None if self.weights is None else parse_weights(self.weights, set(given)),
        }
        counts = {len(values) for values in given.values()}
        if counts == {1}:
            return [Query(**{kind: values[0] for kind, values in given.items()}, **all_have)]
        if len(given) > 1:
            raise UsageError(
                "Several queries must be of one kind; give several --text, or several --audio, --image or --like."
            )
        ((kind, values),) = given.items()
        return [Query(**{kind: value}, **all_have) for value in values]


def parse_weights(weights: str, given: set[str]) -> "dict[Modality, float]":
    """Weights such as `text=2,audio=1`.

    Args:
        weights: as written.
        given: kinds of the query: text, audio, image, like.

    Raises:
        UsageError: if it is no such list, or weighs what is not there.
    """
    made: dict[str, float] = {}
    for part in weights.split(","):
        name, _, number = (each.strip() for each in part.partition("="))
        try:
            weight = float(number)
        except ValueError:
            raise UsageError(
                f"--weights {weights}: '{part.strip()}' is no weight; give them as text=2,audio=1,image=2."
            ) from None
        if not {name, "like" if name == "audio" else name} & given:
            raise UsageError(
                f"--weights {weights}: there is no --{name} in the query; weigh what it has: "
                f"{', '.join(sorted({'audio' if kind == 'like' else kind for kind in given}))}."
            )
        if name in made:
            raise UsageError(f"--weights {weights}: '{name}' is weighed twice; say it once.")
        made[name] = weight
    return cast("dict[Modality, float]", made)
