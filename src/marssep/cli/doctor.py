"""`marssep doctor` says whether everything is here that separating needs."""

import json
import sys
from typing import Annotated

from cyclopts import Parameter


def doctor(
    model: str = "default",
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), show_default=False)] = False,
) -> int:
    """Check environment, libraries, codecs, devices, model, encoder weights, cache and temporary folder.

    Exits with 1 if something that separating needs is broken; each problem comes with what to do about it.

    Args:
        model: A shipped model's name or a model folder.
        as_json: Print JSON.
    """
    from marssep.separate.checkup import examine

    findings = examine(model)
    broken = [finding for finding in findings if finding.state == "broken"]
    if as_json:
        rows = [{key: getattr(each, key) for key in ("name", "state", "what", "advice")} for each in findings]
        print(json.dumps({"ok": not broken, "findings": rows}, indent=1, ensure_ascii=False))
        return 1 if broken else 0
    for finding in findings:
        print(f"{finding.state:<7} {finding.name:<16} {finding.what}")
        if finding.advice:
            print(f"{'':<24} -> {finding.advice}")
    if broken:
        print(f"marssep: {len(broken)} of {len(findings)} checks failed.", file=sys.stderr)
    return 1 if broken else 0
