"""The HTML report: right numbers, whole, harmless, the same bytes twice, and a sentence for what is missing."""

import csv
import html
import re
import shutil
import sys
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from marssep.audio import write_audio
from marssep.errors import InputError, UsageError
from marssep.evaluate.kept import KeptItem, write_kept
from marssep.evaluate.report import html_report, read_run
from marssep.evaluate.results import (
    ComparisonRow,
    Figure,
    ListRecord,
    ModelRecord,
    PresenceRow,
    ProblemRow,
    Results,
    StratumRow,
    SystemRow,
)
from marssep.metrics import mean_interval, paired_difference

HOSTILE = '<script>alert("$1$")</script>'
LABELS = ("drone", HOSTILE)
RATE = 16000
SERIES = (("mixture", ""), ("oracle_grid", ""), ("model", "text"), ("model", "audio"), ('"><img src=x>', "text"))
N_MIXTURES = 40
VOID = {"meta", "br", "img", "input", "link", "hr"}


def made_rows() -> list[dict[str, str]]:
    """Forty mixtures of two sounds and a query for an absent one; audio cannot ask for every tenth sound."""
    random = np.random.default_rng(5)
    rows = []
    for number, query in product(range(N_MIXTURES), range(3)):
        present, level = query < 2, random.uniform(-12, 12)
        for place, (system, modality) in enumerate(SERIES):
            gain = 0.0 if system == "mixture" else 3.0 * place - 0.4 * level + random.normal(0, 3)
            if (modality == "audio" and number % 10 == 0) or (not modality and not present):
                continue
            values = {"si_sdr_improvement_db": gain, "snr_db": level + gain, "snr_improvement_db": gain}
            row = {"mixture": f"m{number:02d}", "query": str(query), "present": str(int(present))}
            row |= {"label": LABELS[(number + query) % 2], "group": "sound" if present else ""}
            row |= {"system": system, "modality": modality, "a_new_column": "words"}
            row |= {name: f"{value:.4f}" if present else "" for name, value in values.items()}
            presence = random.beta(3, 2) if present else random.beta(2, 3)
            rows.append(row | {"presence": f"{presence:.4f}" if system == "model" else "", "suppression_db": ""})
    return rows


def figure(values: list[float], clusters: list[str]) -> Figure:
    return Figure.of(mean_interval(values, clusters, resamples=200), median=float(np.median(values)))


def gains(rows: list[dict[str, str]], system: str, modality: str) -> dict[tuple[str, str], float]:
    chosen = [row for row in rows if (row["system"], row["modality"], row["present"]) == (system, modality, "1")]
    return {(row["mixture"], row["query"]): float(row["si_sdr_improvement_db"]) for row in chosen}


def made_results(rows: list[dict[str, str]]) -> Results:
    systems = []
    for system, modality in SERIES:
        table = gains(rows, system, modality)
        told = figure(list(table.values()), [mixture for mixture, _ in table])
        fields = {"system": system, "modality": modality or None, "group": "all", "bss": None}
        systems.append(SystemRow(**fields, si_sdr_improvement_db=told, snr_db=None, snr_improvement_db=None))
    shares = figure([0.0, 1.0], ["a", "b"])
    names = ("absent_suppressed_by_mask", "absent_suppressed", "absent_rejected", "present_rejected", "kept")
    presence = PresenceRow(
        modality="text", threshold=0.4, area=0.8, absent_suppression_median_db=3.0, **dict.fromkeys(names, shares)
    )
    return Results(
        mixtures=ListRecord(name=HOSTILE, sha256="0" * 64, n_mixtures=N_MIXTURES, n_present=80, n_absent=40),
        model=ModelRecord(name="<b>bold", sha256=None, architecture=None, parameters=None, encoder=None),
        settings={"level": 0.95, "resamples": 200, "seed": 0, "absent_level_db": 15.0},
        versions={"marssep": "0"},
        date="2026-01-02T03:04:05+00:00",
        wall_seconds=1.0,
        systems=systems,
        paired=[],
        presence=[presence],
        classes=[],
        strata=[StratumRow(system="model", modality="text", low_db=None, high_db=-10.0, si_sdr_improvement_db=shares)],
        comparisons=[ComparisonRow(first="model", second="oracle_grid", modality="text", difference_db=shares)],
        problems=[ProblemRow(mixture="m99", query=None, system=None, what="a recording is missing")],
    )


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with five kept queries; not to be changed."""
    rows, folder = made_rows(), tmp_path_factory.mktemp("run")
    made_results(rows).write(folder / "results.json")
    write_rows(folder / "scores.csv", rows)
    random = np.random.default_rng(6)
    for name in ("mixture", "target", "estimate"):
        noise = random.uniform(-1.0, 1.0, (1, RATE // 4)).astype(np.float32)
        write_audio(folder / f"{name}.flac", noise, sample_rate=RATE)
    estimates = {"model/text": "estimate.flac", "oracle_grid": "target.flac"}
    Image.new("RGB", (4, 4), "red").save(folder / "picture.png")
    recordings = {"mixture": "mixture.flac", "reference": "target.flac", "estimates": estimates}
    asked_with = [{}, {}, {}, {}, {"audio": "estimate.flac", "image": "picture.png"}]
    write_kept(
        folder,
        [
            KeptItem(f"m{number:02d}", 0, LABELS[number % 2], HOSTILE, **recordings, **more)
            for number, more in enumerate(asked_with)
        ],
    )
    return folder


@pytest.fixture(scope="module")
def text(run: Path) -> str:
    return html_report(read_run(run))


@pytest.fixture(scope="module")
def page(text: str) -> "Page":
    return Page(text)


@pytest.fixture
def other(run: Path, tmp_path: Path) -> Path:
    """A copy of the run to take things away from."""
    return shutil.copytree(run, tmp_path / "other")


class Page(HTMLParser):
    """Elements, attributes and the tables' cells; unbalanced tags fail."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.words: list[str] = []
        self._table = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert len(found) == len(attrs), f"<{tag}> has an attribute twice"
        self.elements.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "figure":
            self._table = found.get("id") or ""
            self.tables[self._table] = []
        if tag == "tr":
            self.tables[self._table].append([])
        if tag in ("td", "th"):
            self.tables[self._table][-1].append([])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if {"td", "th"} & set(self.open) and data.strip():
            self.tables[self._table][-1][-1].append(data.strip())

    def cell(self, table: str, column: str, *names: str) -> list[str]:
        """The texts of the cell in `column` of the row that begins with `names`."""
        header, *rows = self.tables[table]
        place = [" ".join(cell) for cell in header].index(column)
        found = [row for row in rows if [" ".join(cell) for cell in row][: len(names)] == list(names)]
        assert len(found) == 1
        return found[0][place]


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def test_same_run_same_bytes(run: Path, text: str) -> None:
    assert text == html_report(read_run(run))
    assert "data:audio/ogg;base64," in text
    assert "data:audio/flac;base64," in text


def test_page_is_whole_and_alone(page: Page) -> None:
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(set(ids)) == len(ids)
    for tag, found in page.elements:
        for key in ("href", "src", "xlink:href"):
            link = found.get(key) or "#"
            assert link.startswith(("#", "data:audio/", "data:image/png;base64,")), f"<{tag}> reaches for {link[:60]}"
            assert link in ("#",) or not link.startswith("#") or link[1:] in ids
        assert tag != "svg" or found["aria-label"]
        assert tag != "audio" or found["preload"] == "none"
    for table in page.tables.values():
        assert len({len(row) for row in table}) <= 1
    assert page.tables["problems"][1] == [["m99"], ["all"], ["all"], ["a recording is missing"]]
    assert {"systems", "groups", "snr", "pairs-text", "pairs-none", "queries-1", "calibration"} <= set(page.tables)


def test_no_label_is_taken_for_markup(page: Page) -> None:
    assert [tag for tag, _ in page.elements].count("script") == 1
    pictures = [found["src"] for tag, found in page.elements if tag == "img"]
    assert [src[:22] for src in pictures] == ["data:image/png;base64,"]
    assert not any(key.startswith("on") for _, found in page.elements for key in found)
    assert HOSTILE in "".join(page.words)  # as words, in a table, in a heading and in a plot
    assert f"target: {HOSTILE}" in {word.strip() for word in page.words}
    policy = next(found["content"] for tag, found in page.elements if found.get("http-equiv") is not None)
    assert "script-src 'sha256-" in policy
    assert "default-src 'none'" in policy


def test_headline_numbers(page: Page) -> None:
    rows = made_rows()
    for system, shown in (("model", "marssep"), ("oracle_grid", "oracle ratio mask, our grid")):
        for modality in ("text", "audio") if system == "model" else ("",):
            values = np.array(list(gains(rows, system, modality).values()))
            of = (shown, modality or "none")
            mean, interval = page.cell("systems", "SI-SDRi (dB)", *of)
            low, high = (number(part) for part in interval.split(" to "))
            assert number(mean) == pytest.approx(values.mean(), abs=0.0051)
            assert low < number(mean) < high
            assert page.cell("systems", "n", *of) == [str(len(values))]
            assert number(page.cell("systems", "median", *of)[0]) == pytest.approx(np.median(values), abs=0.0051)
            sem = np.sqrt(np.var(values, ddof=1) / len(values))
            assert number(page.cell("systems", "SEM", *of)[0]) == pytest.approx(sem, abs=0.0051)


def test_numbers_by_input_snr(page: Page) -> None:
    rows = made_rows()
    levels = {
        (row["mixture"], row["query"]): float(row["snr_db"])
        for row in rows
        if row["system"] == "mixture" and row["present"] == "1"
    }
    inside = [gain for key, gain in gains(rows, "model", "text").items() if -5.0 <= levels[key] < 0.0]
    mean, detail = page.cell("snr", "−5 to 0 dB", "marssep", "text")
    assert number(mean) == pytest.approx(np.mean(inside), abs=0.0051)
    assert detail.endswith(f", n {len(inside)}")
    beyond = [gain for key, gain in gains(rows, "model", "audio").items() if levels[key] >= 10.0]
    assert number(page.cell("snr", "10 dB and above", "marssep", "audio")[0]) == pytest.approx(
        np.mean(beyond), abs=0.0051
    )


def test_paired_numbers(page: Page) -> None:
    rows = made_rows()
    text, audio = gains(rows, "model", "text"), gains(rows, "model", "audio")
    keys = list(audio)  # a subset of those by text
    told = paired_difference(
        [text[key] for key in keys], [audio[key] for key in keys], [key[0] for key in keys], resamples=200
    )
    mean, detail = page.cell("queries-1", "audio", "text")
    interval, n = detail.split(", n ")
    assert number(mean) == pytest.approx(told.mean, abs=0.0051)
    assert [number(part) for part in interval.split(" to ")] == pytest.approx([told.low, told.high], abs=0.0051)
    assert int(n) == len(keys)
    turned = page.cell("queries-1", "text", "audio")
    assert number(turned[0]) == -number(mean)
    assert [-number(part) for part in turned[1].split(", n ")[0].split(" to ")][::-1] == pytest.approx(
        [told.low, told.high], abs=0.0051
    )
    oracle = gains(rows, "oracle_grid", "")
    mean = page.cell("pairs-text", "oracle ratio mask, our grid", "marssep")[0]
    assert number(mean) == pytest.approx(np.mean([text[key] - oracle[key] for key in text]), abs=0.0051)


def test_calibration_numbers(page: Page) -> None:
    rows = made_rows()
    answers = [
        (float(row["presence"]), row["present"] == "1")
        for row in rows
        if (row["system"], row["modality"]) == ("model", "text")
    ]
    wrong = sum(
        abs(sum(stated - there for stated, there in answers if tenth <= min(int(stated * 10), 9) < tenth + 1))
        for tenth in range(10)
    ) / len(answers)
    pairs = [
        1.0 if here > gone else 0.5 if here == gone else 0.0
        for here, _ in (answer for answer in answers if answer[1])
        for gone, _ in (answer for answer in answers if not answer[1])
    ]
    told = {name: page.cell("calibration", name, "marssep", "text") for name in ("ECE", "ROC area", "Brier score")}
    assert number(told["ECE"][0]) == pytest.approx(wrong, abs=0.00051)
    assert number(told["ROC area"][0]) == pytest.approx(np.mean(pairs), abs=0.00051)
    brier = np.mean([(stated - there) ** 2 for stated, there in answers])
    assert number(told["Brier score"][0]) == pytest.approx(brier, abs=0.00051)


def test_best_median_and_worst_of_the_kept(text: str) -> None:
    table = gains(made_rows(), "model", "text")
    order = sorted(table.values(), reverse=True)
    kept = sorted((table[f"m{number:02d}", "0"] for number in range(5)), reverse=True)
    middle = min(kept, key=lambda gain: abs(order.index(gain) + 1 - 40.5))
    headings = re.findall(r"<h3>(Best|Median|Worst): .*?, ([+−][\d.]+) dB</h3>", text)
    assert [what for what, _ in headings] == ["Best", "Median", "Worst"]
    assert [number(gain) for _, gain in headings] == pytest.approx([kept[0], middle, kept[4]], abs=0.0051)
    assert f"place {order.index(kept[4]) + 1} of the run's 80 queries by text" in html.unescape(text)
    assert text.count("<audio ") == 5 * 4 + 1  # one was asked by example
    assert "5 queries of this run were kept;" in text


def test_too_many_recordings_are_left_out_and_counted(other: Path, text: str) -> None:
    (other / "scores.csv").unlink()  # without scores nothing is drawn, and all five are equal
    whole = html_report(read_run(other))
    assert whole.count("<audio ") == 5 * 4 + 1
    for size, left_out in ((0, 5), (2 * len(re.findall(r"<details>.*?</details>", whole, re.DOTALL)[0]), 4)):
        small = html_report(read_run(other), most_bytes=1_000_000 + size)
        assert len(small.encode()) < 1_000_000 + size
        assert small.count("<audio ") == (5 - left_out) * 4
        assert f"{left_out} of them are not in this file" in small
    assert "not in this file" not in text


def test_what_is_missing_is_said(other: Path) -> None:
    (other / "items.jsonl").unlink()
    (other / "scores.csv").unlink()
    bare = html_report(read_run(other))
    assert "No recordings were kept" in bare
    assert "There is no scores.csv" in bare
    page = Page(bare)
    assert page.cell("systems", "n", "marssep", "text") == ["80"]
    assert page.cell("systems", "SEM", "marssep", "text") == []
    assert page.cell("snr", "below −10 dB", "marssep", "text") == ["0.50", "0.00 to 1.00, n 2"]
    assert page.cell("pairs", "n", "marssep − oracle ratio mask, our grid", "text") == ["2"]
    assert not {"svg", "audio"} & {tag for tag, _ in page.elements}
    (other / "results.json").unlink()
    with pytest.raises(InputError, match=r"holds no results\.json"):
        read_run(other)


def test_scores_of_another_run_are_noticed(other: Path) -> None:
    rows = made_rows()
    for row in rows:
        if row["system"] == "model" and row["modality"] == "text" and row["present"] == "1":
            row["si_sdr_improvement_db"] = str(float(row["si_sdr_improvement_db"]) + 0.01)
    write_rows(other / "scores.csv", rows)
    (sentence,) = read_run(other).missing
    assert "other figures than the results for model/text:" in sentence


def test_command(other: Path, tmp_path: Path, marssep, monkeypatch: pytest.MonkeyPatch) -> None:
    out, items = tmp_path / "out" / "report.html", tmp_path / "items.json"
    assert marssep("report", other).out.startswith("### ")
    assert marssep("report", other, "--items", items).out == f"{items}\n"
    assert marssep("report", other, other, "--html", out).code == 2
    (other / "results.json").rename(other / "alone.json")
    done = marssep("report", other / "alone.json", "--html", out)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{out} ({len(out.read_bytes()) / 1e6:.1f} MB)\n"
    written = out.read_text(encoding="utf-8")
    assert written == html_report(read_run(other / "alone.json"))
    assert "There is no alone.csv" in written
    assert "no table of scores" in marssep("report", other / "alone.json", "--items", items).err
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UsageError, match="pip install"):
        html_report(read_run(other / "alone.json"))
