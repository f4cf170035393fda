"""Fill tables of docs from results/: what stands between the marks of a topic is replaced.

python benchmarks/tables.py [--pages docs/runtime.md docs/separation.md] [--results results]
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGES = [Path("docs/runtime.md"), Path("docs/separation.md")]


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


def runtimes(results: dict[str, Any]) -> str:
    """Start-up, speed, memory and exactness of every runtime."""
    lines = [
        f"Model `{results['model']}` (sha256 {results['model_sha256'][:12]}), {results['what']}; {results['runs']} "
        f"runs each, {results['processors_allowed']} processors, {results['date'][:10]}.",
        "",
        "| runtime | threads | start-up s | real-time factor | peak memory MB | SNR dB |",
        "| --- | --- | --- | --- | --- | --- |",
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
        "| recording | length s | real-time factor | wall time s | processor time s | peak memory MB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in results["recordings"].items():
        lines.append(
            f"| {name} | {row['seconds']:.0f} | {row['real_time_factor']:.4f} | {row['wall_seconds_median']:.1f} | "
            f"{row['processor_seconds_median']:.1f} | {row['peak_memory_mb']:.0f} |"
        )
    lines += ["", "| what is asked | measured | bar | met |", "| --- | --- | --- | --- |"]
    for name, bar in results["bars"].items():
        lines.append(f"| {name} | {bar['value']:.4g} | {bar['bar']:g} | {'yes' if bar['met'] else 'no'} |")
    lines += [
        "",
        f"Against the computation on the whole: worst second {exact['worst_second_db']} dB, worst tenth of a second "
        f"{exact['worst_tenth_of_a_second_db']} dB, over all {exact['all_db']} dB (200 is equal to the last bit). One "
        f"pass of the network over everything differs by {exact['one_pass_of_the_network_db']} dB.",
        "",
        f"| part ({results['parts']['what']}) | seconds |",
        "| --- | --- |",
    ]
    lines += [f"| {name} | {value:.3f} |" for name, value in results["parts"].items() if name != "what"]
    return "\n".join(lines)


def adapting(results: dict[str, Any]) -> str:
    """What it is worth to adapt, by list and scene."""
    lines = [
        f"SI-SDRi in dB by words, model {results['model'][:12]}, two channels taken as one signal; 95 % intervals over "
        f"mixtures, {results['date'][:10]}.",
        "",
        "| list | scene | queries | mask alone | adapted | difference | median | lose 0.5 dB | presence, ROC area |",
        "| --- " * 9 + "|",
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
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "runtimes": runtimes,
    "long-recording": long_recording,
    "adapting": adapting,
}


if __name__ == "__main__":
    main()
