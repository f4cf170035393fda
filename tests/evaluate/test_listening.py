"""Listening studies up to the page: orders, sounds, addresses, answers that are kept and answers that are refused."""

import csv
import io
import json
import sqlite3
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.signal
from starlette.testclient import TestClient

from marssep.audio import decode_audio, write_audio
from marssep.errors import InputError, OutputError, UsageError
from marssep.evaluate.kept import read_kept
from marssep.evaluate.listening import Desk, Store, Study, choose_items, open_desk, trials
from marssep.evaluate.listening.server import allowed_hosts, build_app, listen_on, page_source
from marssep.evaluate.listening.stimuli import PEAK, anchor_filter, equally_loud, loudness_lufs, low_anchor
from marssep.evaluate.listening.study import ANCHOR, REFERENCE

SYSTEMS = ("clean", "leaky", "muddy")


@pytest.fixture(scope="module")
def run(simulation: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulation.made_run(tmp_path_factory.mktemp("listening") / "run", n_items=3, seed=1, seconds=0.5)


@pytest.fixture
def desk(run: Path, tmp_path: Path) -> Desk:
    return open_desk(run, tmp_path / "ratings.sqlite", kind="mushra")


@pytest.fixture
def client(desk: Desk) -> TestClient:
    return TestClient(build_app(desk))


@pytest.fixture
def ab(run: Path, tmp_path: Path) -> TestClient:
    return TestClient(build_app(open_desk(run, tmp_path / "ab.sqlite", kind="ab")))


def study(kind: str, *, items: int = 12, systems: tuple[str, ...] = SYSTEMS, seed: int = 0) -> Study:
    names = tuple(f"item-{number}" for number in range(items))
    return Study(kind=kind, seed=seed, items=names, systems=systems, sha256="0" * 64)


def begin(client: TestClient, rater: str = "anna") -> dict:
    assert client.post("/api/raters", json={"rater": rater}).status_code == 200
    return client.get(f"/api/raters/{rater}/next").json()["trial"]


def test_orders_are_each_raters_own_and_always_the_same() -> None:
    one = study("mushra")
    assert trials(one, "anna") == trials(one, "anna")
    assert trials(one, "anna") != trials(one, "bert")
    assert trials(one, "anna") != trials(study("mushra", seed=1), "anna")
    assert {trial.item for trial in trials(one, "anna")} == set(one.items)
    assert all(set(trial.stimuli) == {*SYSTEMS, REFERENCE, ANCHOR} for trial in trials(one, "anna"))
    first = Counter(trials(one, f"rater-{number}")[0].stimuli[0] for number in range(200))
    assert min(first.values()) > 20  # of five stimuli each is first for about forty


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_pairs_are_balanced_for_each_rater(n: int) -> None:
    systems = tuple("abcde"[:n])
    made = trials(study("ab", systems=systems), "anna")
    pairs = Counter(frozenset(trial.stimuli) for trial in made)
    assert max(pairs.values()) - min(pairs.values()) <= 1
    for pair in pairs:
        sides = Counter(trial.stimuli[0] for trial in made if set(trial.stimuli) == pair)
        assert abs(sides[min(pair)] - sides[max(pair)]) <= 1
    assert len({(trial.item, frozenset(trial.stimuli)) for trial in made}) == len(made)


def test_what_is_chosen(run: Path) -> None:
    kept = read_kept(run)
    items, systems = choose_items(kept, systems=None, n=2, seed=0)
    assert (len(items), systems) == (2, SYSTEMS)
    assert choose_items(kept, systems=["muddy", "clean"], n=None, seed=0) == (kept, ("muddy", "clean"))
    for names, n, message in (
        (["best"], None, "'best' is not in the run; it has clean, leaky, muddy"),
        (["clean", "clean"], None, "each system to compare once"),
        (None, 4, "the run has 3 items"),
        (None, 0, "the run has 3 items"),
    ):
        with pytest.raises(UsageError, match=message):
            choose_items(kept, systems=names, n=n, seed=0)


def test_one_system_is_no_pair(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two systems"):
        open_desk(run, tmp_path / "ab.sqlite", kind="ab", systems=["clean"])


def test_loudness_of_the_standard() -> None:
    """BS.1770-4: a full-scale sine of 997 Hz on one channel is -3.01 LKFS."""
    sine = np.sin(2 * np.pi * 997 * np.arange(48000 * 2) / 48000).astype(np.float32)[None]
    assert loudness_lufs(sine, sample_rate=48000) == pytest.approx(-3.01, abs=0.05)
    assert loudness_lufs(0 * sine, sample_rate=48000) == -np.inf
    assert np.isfinite(loudness_lufs(sine[:, :4800], sample_rate=48000))  # shorter than the standard's block


def test_no_sound_of_a_page_is_louder_and_silence_stays() -> None:
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((1, 16000)).astype(np.float32)
    click = np.zeros_like(noise)
    click[0, ::4000] = 1.0
    made = equally_loud({"a": 0.5 * noise, "b": 0.001 * noise, "c": click, "d": 0 * noise}, sample_rate=16000)
    levels = [loudness_lufs(made[name], sample_rate=16000) for name in "abc"]
    assert np.ptp(levels) < 0.01
    assert max(np.abs(sound).max() for sound in made.values()) == pytest.approx(PEAK, rel=1e-5)
    assert not made["d"].any()


@pytest.mark.parametrize("rate", [16000, 32000, 44100])
def test_the_anchor_filter_is_as_recommended(rate: int) -> None:
    hertz, response = scipy.signal.freqz(anchor_filter(rate), worN=1 << 14, fs=rate)
    decibels = 20 * np.log10(np.abs(response) + 1e-12)
    assert np.abs(decibels[hertz <= 3500]).max() < 0.1
    assert decibels[hertz >= 4000].max() < -50


def test_the_anchor_keeps_step() -> None:
    sine = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)[None]
    np.testing.assert_allclose(low_anchor(sine, sample_rate=16000)[:, 2000:-2000], sine[:, 2000:-2000], atol=0.01)
    with pytest.raises(UsageError, match="above 8000 Hz"):
        low_anchor(sine, sample_rate=8000)


def test_a_silent_reference_is_refused(simulation: ModuleType, tmp_path: Path) -> None:
    run = simulation.made_run(tmp_path / "run", n_items=1, seed=1, seconds=0.5)
    write_audio(run / read_kept(run)[0].reference, np.zeros(8000), sample_rate=16000)
    with pytest.raises(InputError, match="is silent"):
        open_desk(run, tmp_path / "ratings.sqlite", kind="mushra")


def test_the_page_needs_nothing_else(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    source = page_source()
    assert "src=" not in source.split("<script>")[0].replace('<img id="picture"', "")
    assert "http" not in source


def test_what_the_page_sees_names_no_system(client: TestClient, desk: Desk) -> None:
    trial = begin(client)
    assert trial["text"] in ("bell", "whistle", "engine hum")
    assert len(trial["stimuli"]) == 5
    for system in (*SYSTEMS, ANCHOR, "hidden"):
        assert system not in json.dumps(trial)
    assert trial["reference"].rsplit("/", 1)[1] not in [one["id"] for one in trial["stimuli"]]
    _, behind = desk.behind("anna", trial["trial"])
    hidden = next(sound for sound, system in behind.items() if system == REFERENCE)
    open_reference = client.get("/" + trial["reference"])
    assert client.get(f"/audio/anna/{trial['trial']}/{hidden}").content == open_reference.content
    assert "etag" not in open_reference.headers
    other = begin(client, "bert")
    assert not {one["id"] for one in other["stimuli"]} & {one["id"] for one in trial["stimuli"]}


def test_all_sounds_of_a_page_are_equally_long_and_loud(client: TestClient) -> None:
    trial = begin(client)
    urls = [trial["mixture"], trial["reference"], *(one["url"] for one in trial["stimuli"])]
    sounds = [decode_audio(client.get("/" + url).content, name=url) for url in urls]
    assert {sound.waveform.shape for sound in sounds} == {(1, 8000)}
    assert {sound.subtype for sound in sounds} == {"PCM_16"}
    assert np.ptp([loudness_lufs(sound.waveform, sample_rate=16000) for sound in sounds]) < 0.05
    assert trial["seconds"] == 0.5


def test_the_picture_and_sound_of_the_question(client: TestClient) -> None:
    client.post("/api/raters", json={"rater": "anna"})
    seen = Counter()
    while (trial := client.get("/api/raters/anna/next").json()["trial"]) is not None:
        for key, media_type in (("picture", "image/png"), ("sound", "audio/wav")):
            if trial[key]:
                assert client.get("/" + trial[key]).headers["content-type"] == media_type
                seen[key] += 1
        scores = {one["id"]: 50 for one in trial["stimuli"]}
        client.post("/api/answers", json={"rater": "anna", "trial": trial["trial"], "scores": scores})
    assert seen == {"picture": 2, "sound": 1}


def test_a_rater_goes_on_where_he_stopped(client: TestClient, run: Path, tmp_path: Path) -> None:
    trial = begin(client)
    scores = {one["id"]: 10 * place for place, one in enumerate(trial["stimuli"])}
    answer = client.post("/api/answers", json={"rater": "anna", "trial": trial["trial"], "scores": scores})
    assert (answer.status_code, answer.json()) == (201, {"stored": True, "left": 2})
    again = TestClient(build_app(open_desk(run, tmp_path / "ratings.sqlite", kind="mushra")))
    assert again.post("/api/raters", json={"rater": "anna"}).json() == {"rater": "anna", "done": 1, "total": 3}
    following = again.get("/api/raters/anna/next").json()["trial"]
    assert (following["number"], following["total"]) == (2, 3)
    assert following["trial"] != trial["trial"]
    twice = again.post(
        "/api/answers", json={"rater": "anna", "trial": trial["trial"], "scores": dict.fromkeys(scores, 1)}
    )
    assert (twice.status_code, twice.json()) == (
        409,
        {"error": "This page was answered before; the first answer stands."},
    )
    assert [score.score for score in Store.open(tmp_path / "ratings.sqlite").scores()] == [0.0, 10.0, 20.0, 30.0, 40.0]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda given, sound: given["scores"].update({sound: 101}), 422),
        (lambda given, sound: given["scores"].update({sound: -0.5}), 422),
        (lambda given, sound: given["scores"].update({sound: "80"}), 422),
        (lambda given, sound: given["scores"].update({sound: True}), 422),
        (lambda given, sound: given["scores"].update({sound: None}), 422),
        (lambda given, sound: given["scores"].update({sound: 10**400}), 422),
        (lambda given, sound: given["scores"].update({"more": 50}), 422),
        (lambda given, sound: given["scores"].pop(sound), 422),
        (lambda given, sound: given.pop("scores"), 422),
        (lambda given, sound: given.update(scores=None, choice="a"), 422),
        (lambda given, sound: given.update(rater="nobody"), 404),
        (lambda given, sound: given.update(trial="0" * 20), 404),
        (lambda given, sound: given.update(trial=7), 422),
        (lambda given, sound: given.update(padding="x" * 70000), 413),
    ],
)
def test_a_wrong_answer_is_refused_in_a_sentence(client: TestClient, desk: Desk, change: object, status: int) -> None:
    trial = begin(client)
    given = {"rater": "anna", "trial": trial["trial"], "scores": {one["id"]: 50 for one in trial["stimuli"]}}
    change(given, trial["stimuli"][0]["id"])
    answer = client.post("/api/answers", json=given)
    assert answer.status_code == status
    assert answer.json()["error"].endswith(".")
    assert desk.store.scores() == []


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [("{", "application/json", 400), ("[]", "application/json", 400), ("[" * 60000, "application/json", 400),
     ('{"rater": "anna"}', "text/plain", 415), ('{"rater": "a b"}', "application/json", 422),
     ('{"rater": ""}', "application/json", 422), ('{"rater": 7}', "application/json", 422)],
)  # fmt: skip
def test_what_is_no_request_is_refused(client: TestClient, body: str, media_type: str, status: int) -> None:
    answer = client.post("/api/raters", content=body, headers={"content-type": media_type})
    assert answer.status_code == status
    assert answer.json()["error"].endswith(".")


def test_unknown_addresses(client: TestClient) -> None:
    trial = begin(client)
    assert client.get("/api/raters/nobody/next").status_code == 404
    assert client.get(f"/audio/anna/{trial['trial']}/none").status_code == 404
    assert client.get(f"/audio/bert/{trial['trial']}/none").status_code == 404


def test_preferences_are_stored(ab: TestClient, tmp_path: Path) -> None:
    trial = begin(ab)
    assert (len(trial["stimuli"]), trial["reference"]) == (2, None)
    wrong = ab.post("/api/answers", json={"rater": "anna", "trial": trial["trial"], "choice": "c"})
    assert wrong.status_code == 422
    total = trial["total"]
    for choice in ("a", "b", "none"):
        trial = ab.get("/api/raters/anna/next").json()["trial"]
        given = {"rater": "anna", "trial": trial["trial"], "choice": choice}
        assert ab.post("/api/answers", json=given).status_code == 201
        assert ab.post("/api/answers", json=given).status_code == 409
    assert [one.choice for one in Store.open(tmp_path / "ab.sqlite").preferences()] == ["a", "b", "none"]
    assert ab.get("/api/raters/anna/next").json()["trial"]["number"] == 4
    assert total == 9


def test_a_file_holds_one_study(run: Path, tmp_path: Path) -> None:
    db = tmp_path / "ratings.sqlite"
    open_desk(run, db, kind="mushra")
    with pytest.raises(UsageError, match=r"another study \(seed differ\)"):
        open_desk(run, db, kind="mushra", seed=1)
    broken = tmp_path / "broken.sqlite"
    broken.write_text("this is no database, " * 100)
    with pytest.raises(OutputError, match="name another --db"):
        open_desk(run, broken, kind="mushra")
    for path in (broken, tmp_path / "missing.sqlite"):
        with pytest.raises(InputError, match="marssep listen serve"):
            Store.open(path)


def test_the_file_itself_refuses_what_is_out_of_range(desk: Desk) -> None:
    desk.store.join("anna")
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        desk.store.add_scores("anna", desk.study.items[0], {"clean": 50.0, "leaky": 101.0})
    assert desk.store.scores() == []  # all of a page or nothing


def test_other_names_of_this_machine_are_refused(desk: Desk) -> None:
    client = TestClient(build_app(desk, hosts=allowed_hosts("127.0.0.1")), base_url="http://elsewhere.example")
    assert client.get("/api/study").status_code == 400
    near = TestClient(build_app(desk, hosts=allowed_hosts("127.0.0.1")), base_url="http://localhost:8000")
    assert near.get("/api/study").json() == {"title": "Listening test", "kind": "mushra", "items": 3}
    assert allowed_hosts("0.0.0.0") == ("*",)


def test_an_address_that_is_taken() -> None:
    with listen_on("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        with pytest.raises(UsageError, match="try --port 0"):
            listen_on("127.0.0.1", port)


def test_export_and_analysis_from_the_command_line(
    client: TestClient, desk: Desk, simulation: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from marssep.cli.listen import app

    for name in ("anna", "bert", "careless"):
        simulation.take(desk, simulation.SimulatedRater(name, seed=7))
    before = desk.store.scores()
    db = str(tmp_path / "ratings.sqlite")
    app(["export", "--db", db], result_action="return_value")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 3 * 3 * 5
    assert {row["stimulus"] for row in rows} == {*SYSTEMS, REFERENCE, ANCHOR}
    app(["export", "--db", db, "-o", str(tmp_path / "out" / "answers.csv")], result_action="return_value")
    assert len((tmp_path / "out" / "answers.csv").read_text().splitlines()) == 46
    output = tmp_path / "listening.json"
    app(["analyse", "--db", db, "--json", "-o", str(output)], result_action="return_value")
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads(output.read_text())
    assert (report["n_raters"], report["n_kept"]) == (3, 2)
    app(["analyse", "--db", db], result_action="return_value")
    assert "Left out: careless" in capsys.readouterr().out
    assert desk.store.scores() == before


def test_no_answers_yet(desk: Desk, tmp_path: Path) -> None:
    from marssep.cli.listen import analyse

    with pytest.raises(InputError, match="no answers yet"):
        analyse(db=tmp_path / "ratings.sqlite")
