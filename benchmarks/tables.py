"""Fill the tables of docs/runtime.md from results/: what stands between the marks of a topic is replaced.

python benchmarks/tables.py [--page docs/runtime.md] [--results results]
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    """Rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, default=Path("docs/runtime.md"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    settings = parser.parse_args()
    settings.page.write_text(
        filled(settings.page.read_text(encoding="utf-8"), settings.results), encoding="utf-8", newline="\n"
    )


def filled(page: str, results: Path) -> str:
    """The page with the tables of all topics that have results."""
    for topic, table in TABLES.items():
        place = results / f"{topic}.json"
        if place.is_file():
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


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {"runtimes": runtimes, "long-recording": long_recording}


if __name__ == "__main__":
    main()
