"""What a rater may see and say: pages without a system's name, and answers that are checked before they count."""

import functools
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from marssep.evaluate.listening.stimuli import Prepared
from marssep.evaluate.listening.store import Store
from marssep.evaluate.listening.study import REFERENCE, Trial, trials

CHOICES = ("a", "b", "none")
_RATER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


class RefusedError(Exception):
    """A request that cannot be granted: an HTTP status of 4xx and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Sound:
    """What a name on a page stands for."""

    data: bytes
    media_type: str = "audio/wav"


class Desk:
    """Hands out pages and takes answers; what it needs to know between two requests is in the store.

    Args:
        store: holds the study and its answers.
        prepared: the study's items.
        title: what raters see at the top.
    """

    def __init__(self, store: Store, prepared: Sequence[Prepared], *, title: str = "Listening test") -> None:
        self.store = store
        self.study = store.study
        self.title = title
        self._prepared = {page.item.name: page for page in prepared}
        self._trials = functools.lru_cache(maxsize=1024)(self._make_trials)

    def about(self) -> dict[str, Any]:
        """What the first page says."""
        return {"title": self.title, "kind": self.study.kind, "items": len(self.study.items)}

    def join(self, rater: object) -> dict[str, Any]:
        """Let a rater in, or in again.

        Raises:
            RefusedError: if the name is not one.
        """
        if not isinstance(rater, str) or not _RATER.fullmatch(rater):
            raise RefusedError(
                422, "A name has 1 to 40 letters, digits, hyphens or underscores and begins with no hyphen."
            )
        self.store.join(rater)
        total = len(self._trials(rater))
        return {"rater": rater, "done": total - len(self.open_trials(rater)), "total": total}

    def open_trials(self, rater: str) -> dict[str, Trial]:
        """The pages that a rater has not answered, by their name on the page, in order."""
        done: set[tuple[str, frozenset[str]]]
        if self.study.kind == "mushra":
            done = {(score.item, frozenset(self.study.stimuli)) for score in self.store.scores(rater)}
        else:
            done = {(one.item, frozenset((one.system_a, one.system_b))) for one in self.store.preferences(rater)}
        pages = self._trials(rater).items()
        return {name: one for name, one in pages if (one.item, frozenset(one.stimuli)) not in done}

    def next(self, rater: str) -> dict[str, Any] | None:
        """The rater's next page, or None when all are answered.

        Raises:
            RefusedError: if the rater has not joined.
        """
        self._must_know(rater)
        left = self.open_trials(rater)
        if not left:
            return None
        name, trial = next(iter(left.items()))
        page = self._prepared[trial.item]
        total = len(self._trials(rater))
        url = f"audio/{rater}/{name}"
        described = {
            "trial": name,
            "number": total - len(left) + 1,
            "total": total,
            "text": page.item.text,
            "seconds": page.seconds,
            "mixture": f"{url}/{self._name(rater, name, 'open/mixture')}",
            "stimuli": [{"id": sound, "url": f"{url}/{sound}"} for sound in self._stimuli(rater, name, trial)],
        }
        for key, there in (
            ("reference", self.study.kind == "mushra"),
            ("sound", page.question_sound is not None),
            ("picture", page.picture is not None),
        ):
            described[key] = f"{url}/{self._name(rater, name, f'open/{key}')}" if there else None
        return described

    def sound(self, rater: str, trial: str, name: str) -> Sound:
        """What is behind an address of a page.

        Raises:
            RefusedError: if there is no such thing.
        """
        one = self._trial(rater, trial)
        page = self._prepared[one.item]
        for sound, system in self._stimuli(rater, trial, one).items():
            if sound == name:
                return Sound(page.rated[system])
        spoken = {"mixture": page.mixture, "reference": page.rated[REFERENCE], "sound": page.question_sound}
        for key, data in spoken.items():
            if data is not None and self._name(rater, trial, f"open/{key}") == name:
                return Sound(data)
        if page.picture is not None and self._name(rater, trial, "open/picture") == name:
            return Sound(page.picture[1], page.picture[0])
        raise RefusedError(404, "There is no such sound; load the page again.")

    def answer(self, rater: object, trial: object, *, scores: object = None, choice: object = None) -> dict[str, Any]:
        """Take an answer: `scores` by sound for MUSHRA, `choice` for A/B.

        Raises:
            RefusedError: if the rater or page is unknown, the answer is incomplete, out of range or of the other kind,
                or the page was answered before.
        """
        if not isinstance(rater, str) or not isinstance(trial, str):
            raise RefusedError(422, "An answer names its rater and its trial.")
        self._must_know(rater)
        one = self._trial(rater, trial)
        if self.study.kind == "mushra":
            stored = self.store.add_scores(rater, one.item, self._scores(rater, trial, scores))
        else:
            if choice not in CHOICES or not isinstance(choice, str):
                raise RefusedError(422, f"The choice must be one of {', '.join(CHOICES)}.")
            stored = self.store.add_preference(rater, one.item, (one.stimuli[0], one.stimuli[1]), choice=choice)
        if not stored:
            raise RefusedError(409, "This page was answered before; the first answer stands.")
        left = len(self.open_trials(rater))
        return {"stored": True, "left": left}

    def behind(self, rater: str, trial: str) -> tuple[str, dict[str, str]]:
        """The item of a page and the system behind each of its sounds; for simulations, never for the page.

        Raises:
            RefusedError: if there is no such page.
        """
        one = self._trial(rater, trial)
        return one.item, self._stimuli(rater, trial, one)

    def _scores(self, rater: str, trial: str, scores: object) -> dict[str, float]:
        _, stimuli = self.behind(rater, trial)
        if not isinstance(scores, dict) or set(scores) != set(stimuli):
            raise RefusedError(422, f"A page needs one score for each of its {len(stimuli)} sounds and no others.")
        for value in scores.values():
            # NaN and infinity, which Python's JSON knows, are in no range.
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 100:
                raise RefusedError(422, "A score is a number from 0 to 100.")
        return {system: float(scores[sound]) for sound, system in stimuli.items()}

    def _must_know(self, rater: str) -> None:
        if not self.store.knows(rater):
            raise RefusedError(404, "No rater of this name has begun; begin on the first page.")

    def _trial(self, rater: str, trial: str) -> Trial:
        found = self._trials(rater).get(trial)
        if found is None:
            raise RefusedError(404, "This rater has no such page; load the page again.")
        return found

    def _make_trials(self, rater: str) -> dict[str, Trial]:
        made = trials(self.study, rater)
        return {self._name(rater, "", f"{one.item}/{sorted(one.stimuli)}"): one for one in made}

    def _stimuli(self, rater: str, trial: str, one: Trial) -> dict[str, str]:
        return {self._name(rater, trial, f"rated/{system}"): system for system in one.stimuli}

    def _name(self, rater: str, trial: str, what: str) -> str:
        """A name that says nothing to who has not the key, and is the same after a restart."""
        message = "\0".join((rater, trial, what)).encode()
        return hmac.new(self.store.secret.encode(), message, hashlib.sha256).hexdigest()[:20]
