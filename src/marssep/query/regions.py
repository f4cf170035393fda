"""Stretches of the recording itself as examples: how they are written, and which make sense."""

import math
import re
from collections.abc import Sequence

from marssep.errors import UsageError

Region = tuple[float, float]
"""Begin and end, seconds from the beginning of the recording."""
Regions = Sequence[float] | Sequence[Sequence[float]]
"""One region or several, as a caller may give them."""

SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 60.0
"""Of a region: less is no sound to go by; more is a recording, and would have to be held in memory."""

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)")
_FORM = "give START-END in seconds or minutes:seconds, such as 0:03-0:05"


def parse_regions(text: str) -> tuple[Region, ...]:
    """Regions as they are typed: `0:03-0:05`, `3-5.5`, `1:02:03-1:02:05`, several joined by commas.

    Raises:
        UsageError: if that is not what was typed.
    """
    made = []
    for part in text.split(","):
        times = [_TIME.fullmatch(each.strip()) for each in part.split("-")]
        if len(times) != 2 or None in times:
            raise UsageError(f"'{part.strip()}' is no region of a recording; {_FORM}.")
        begin, end = (_seconds(each) for each in times if each is not None)
        made.append((begin, end))
    return check_regions(made)


def check_regions(regions: Regions) -> tuple[Region, ...]:
    """One region or several as a tuple of regions.

    Raises:
        UsageError: if one is empty, reversed, before the beginning, too short or too long.
    """
    pairs = [regions] if regions and not isinstance(regions[0], Sequence) else list(regions)
    made = []
    for pair in pairs:
        if not isinstance(pair, Sequence) or len(pair) != 2 or not all(math.isfinite(each) for each in pair):
            raise UsageError(f"A region is (begin, end) in seconds, not {pair!r}.")
        region = (float(pair[0]), float(pair[1]))
        if wrong := _fault(*region):
            raise UsageError(f"The region {describe_region(region)} {wrong}.")
        made.append(region)
    return tuple(made)


def describe_region(region: Region) -> str:
    """A region as it can be typed, e.g. `0:03-0:05.5`."""
    return "-".join(describe_time(each) for each in region)


def describe_time(seconds: float) -> str:
    """A time as it can be typed, to the millisecond, e.g. `1:02:03.5`."""
    sign, milliseconds = "-" * (seconds < 0), round(abs(seconds) * 1000)
    whole, rest = divmod(milliseconds, 1000)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{rest:03d}".rstrip("0") if rest else ""
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{sign}{head}:{whole:02d}{fraction}"


def _fault(begin: float, end: float) -> str | None:
    if begin < 0:
        return "begins before the recording; times count from its beginning"
    if end == begin:
        return f"is empty; {_FORM}"
    if end < begin:
        return f"ends before it begins; {_FORM}"
    length = round(end - begin, 6)  # 0.102 - 0.002 is a little less than 0.1
    if length < SHORTEST_SECONDS:
        return f"is shorter than {SHORTEST_SECONDS:g} s; take more of the sound"
    if length > LONGEST_SECONDS:
        return f"is longer than {LONGEST_SECONDS:g} s; take the part where the sound is clearest"
    return None


def _seconds(time: re.Match[str]) -> float:
    hours, minutes, seconds = time.groups()
    return int(hours or 0) * 3600.0 + int(minutes or 0) * 60.0 + float(seconds)
