"""Fill tables of docs from results/: what stands between the marks of a topic is replaced.

python benchmarks/tables.py [--pages docs/runtime.md ...] [--results results]
"""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from marssep.evaluate.study.table import study_table

PAGES = [Path(f"docs/{name}.md") for name in ("runtime", "separation", "reinforcement")]


def main() -> None:
    """Rewrite the pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=Path, nargs="+", default=PAGES)
    parser.add_argument("--results", type=Path, default=Path("results"))
    settings = parser.parse_args()
    for page in settings.pages:
        page.write_text(filled(page.read_text(encoding="utf-8"), settings.results), encoding="utf-8", newline="\n")


def filled(page: str, results: Path) -> str:
    """The page with the tables of all its topics that have results."""
    for topic, table in TABLES.items():
        place = results / f"{topic}.json"
        if f"<!-- {topic}:begin " in page and place.is_file():
            body = table(json.loads(place.read_text(encoding="utf-8")))
            before, begin, rest = page.partition(f"<!-- {topic}:begin ")
            mark, _, rest = rest.partition("-->\n")
            _, end, after = rest.partition(f"<!-- {topic}:end -->")
            page = f"{before}{begin}{mark}-->\n\n{body}\n\n{end}{after}"
    return page


def _head(*columns: str) -> list[str]:
    """The first two lines of a table."""
    return [_row(columns), "| --- " * len(columns) + "|"]


def _row(cells: Iterable[Any]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def runtimes(results: dict[str, Any]) -> str:
    """Start-up, speed, memory and exactness of every runtime."""
    lines = [
        f"Model `{results['model']}` (sha256 {results['model_sha256'][:12]}), {results['what']}; {results['runs']} "
        f"runs each, {results['processors_allowed']} processors, {results['date'][:10]}.",
        "",
        *_head("runtime", "threads", "start-up s", "real-time factor", "peak memory MB", "SNR dB"),
    ]
    for row in results["rows"]:
        snr = "reference" if row["snr_db"] is None else f"{row['snr_db']:.0f}"
        lines.append(
            f"| {row['name']} | {row['threads']} | {row['start_up_seconds']:.2f} | {row['real_time_factor']:.4f} | "
            f"{row['peak_memory_mb']:.0f} | {snr} |"
        )
    return "\n".join(lines)


def long_recording(results: dict[str, Any]) -> str:
    """Bars, recordings and parts."""
    exact = results["exactness"]
    lines = [
        f"Model `{results['model']}`, {results['what']}; {results['runs']} runs each, "
        f"{results['processors_allowed']} processors, {results['date'][:10]}.",
        "",
        *_head("recording", "length s", "real-time factor", "wall time s", "processor time s", "peak memory MB"),
    ]
    for name, row in results["recordings"].items():
        lines.append(
            f"| {name} | {row['seconds']:.0f} | {row['real_time_factor']:.4f} | {row['wall_seconds_median']:.1f} | "
            f"{row['processor_seconds_median']:.1f} | {row['peak_memory_mb']:.0f} |"
        )
    lines += ["", *_head("what is asked", "measured", "bar", "met")]
    for name, bar in results["bars"].items():
        lines.append(f"| {name} | {bar['value']:.4g} | {bar['bar']:g} | {'yes' if bar['met'] else 'no'} |")
    lines += [
        "",
        f"Against the computation on the whole: worst second {exact['worst_second_db']} dB, worst tenth of a second "
        f"{exact['worst_tenth_of_a_second_db']} dB, over all {exact['all_db']} dB (200 is equal to the last bit). One "
        f"pass of the network over everything differs by {exact['one_pass_of_the_network_db']} dB.",
        "",
        *_head(f"part ({results['parts']['what']})", "seconds"),
    ]
    lines += [f"| {name} | {value:.3f} |" for name, value in results["parts"].items() if name != "what"]
    return "\n".join(lines)


def adapting(results: dict[str, Any]) -> str:
    """What it is worth to adapt, by list and scene."""
    lines = [
        f"SI-SDRi in dB by words, model {results['model'][:12]}, two channels taken as one signal; 95 % intervals over "
        f"mixtures, {results['date'][:10]}.",
        "",
        *_head(
            "list",
            "scene",
            "queries",
            "mask alone",
            "adapted",
            "difference",
            "median",
            "lose 0.5 dB",
            "presence, ROC area",
        ),
    ]
    for name, scenes in results["lists"].items():
        for scene, row in scenes.items():
            gain = row["difference_db"]
            cells = [
                *(name, scene, row["queries"], f"{row['mask_db']['mean']:.2f}", f"{row['adapted_db']['mean']:.2f}"),
                f"{gain['mean']:+.2f} [{gain['low']:.2f}, {gain['high']:.2f}]",
                *(f"{row['median_difference_db']:+.2f}", f"{100 * row['harmed']:.0f} %"),
                f"{row['mask_presence_area']:.3f}, {row['adapted_presence_area']:.3f}",
            ]
            lines.append(_row(cells))
    return "\n".join(lines)


def reinforcement(results: dict[str, Any]) -> str:
    """The study, as `marssep study report` prints it."""
    return study_table(results).rstrip("\n")


def policy_gradient(results: dict[str, Any]) -> str:
    """Alignment with the exact gradient: a row for every reward, group and weight of cells, a column a field."""
    names = list(dict.fromkeys(row["exploration"] for row in results["rows"]))
    lines = [
        f"Mean over {results['batches']} batches of 8 mixtures, {results['date']}.",
        "",
        *_head("reward", "masks, weight of cells", *names),
    ]
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in results["rows"]:
        key = row["reward"], f"{row['group_size']}, {'energy' if row['energy_weight'] else 'none'}"
        found.setdefault(key, {})[row["exploration"]] = row["cosine"]
    for (reward, masks), cosines in found.items():
        lines.append(_row([reward, masks, *(f"{cosines[name]:.2f}" for name in names)]))
    return "\n".join(lines)


def reinforcement_questions(results: dict[str, Any]) -> str:
    """Ways of inference, and who wins when two modalities disagree."""
    lines = [
        f"{results['mixtures']} mixtures of `{results['list']}`, model {results['model'][:12]}, {results['date']}.",
        "",
        *_head("way", "SI-SDRi", "spread over samples", "text similarity", "spread"),
    ]
    for row in results["inference"]:
        cells = [row["way"]]
        for key, places in (("si_sdri", 2), ("text_similarity", 3)):
            mean, low, high = (f"{row[key][part]:.{places}f}" for part in ("mean", "low", "high"))
            cells += [f"{mean} [{low}, {high}]", f"{row[f'{key}_spread']:.{places}f}"]
        lines.append(_row(cells))
    weights = list(dict.fromkeys(row["weight_of_first"] for row in results["conflicts"]))
    head = [f"weight {weight:g}" for weight in weights]
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in results["conflicts"]:
        found.setdefault((row["first"], row["second"], row["holds"]), []).append(row)
    lines += ["", *_head("both sounds are there: first wins, %", *head)]
    for (first, second, holds), rows in found.items():
        if holds == "both":
            wins = [f"{100 * row['first_wins']['mean']:.0f}" for row in rows]
            lines.append(_row([f"{first} against {second} (n = {rows[0]['n']})", *wins]))
    lines += ["", *_head("level of what comes out, dB", "holds", *head)]
    for (first, second, holds), rows in found.items():
        if holds != "both":
            levels = [f"{row['level']['mean']:.1f}" for row in rows]
            lines.append(_row([f"{first} and {second}", f"{holds} (n = {rows[0]['n']})", *levels]))
    return "\n".join(lines)


def reinforce_step(results: dict[str, Any]) -> str:
    """Cost of one update."""
    lines = [
        f"{results['batch']}; {results['threads']} thread, {results['rounds']} rounds, {results['date']}.",
        "",
        *_head("update", "seconds", "times supervised", "peak MB", "GFLOP"),
    ]
    for name, row in results["rows"].items():
        seconds, times = f"{row['wall_seconds']:.3f}", f"{row['times_supervised']:.2f}"
        lines.append(_row([name, seconds, times, row["peak_mb"], row["gflop"]]))
    return "\n".join(lines)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "runtimes": runtimes,
    "long-recording": long_recording,
    "adapting": adapting,
    "reinforcement": reinforcement,
    "policy-gradient": policy_gradient,
    "reinforcement-questions": reinforcement_questions,
    "reinforce-step": reinforce_step,
}


if __name__ == "__main__":
    main()
