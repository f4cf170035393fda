"""Both studies in a real browser, from the first page to the findings; skipped where there is no chromium."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from marssep.evaluate.listening import Desk, analyse, open_desk
from marssep.evaluate.listening.server import allowed_hosts, build_app, listen_on, make_server

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="chromium and chromedriver are not installed: apt-get install chromium chromium-driver",
)
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", 
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
_PATIENCE = 60  # seconds until a page that does not come is a failure


@pytest.fixture(scope="module")
def run(simulation: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulation.made_run(tmp_path_factory.mktemp("browser") / "run", n_items=3, seed=1, seconds=0.5)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield started
    started.quit()


@contextmanager
def served(desk: Desk) -> Iterator[str]:
    with listen_on("127.0.0.1", 0) as bound:
        server = make_server(build_app(desk, hosts=allowed_hosts("127.0.0.1")))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


class Page:
    """What a person does with the page."""

    def __init__(self, driver: object, url: str) -> None:
        from selenium.webdriver.common.by import By

        self.driver, self.by = driver, By
        driver.get(url)

    def all(self, selector: str) -> list:
        return self.driver.find_elements(self.by.CSS_SELECTOR, selector)

    def one(self, selector: str):
        return self.driver.find_element(self.by.CSS_SELECTOR, selector)

    def until(self, condition: object) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, _PATIENCE, poll_frequency=0.02).until(condition)

    def begin(self, name: str) -> None:
        self.until(lambda _: self.all("#rules li"))
        self.one("#rater").clear()
        self.one("#rater").send_keys(name)
        self.one("#join button").click()
        self.ready()

    def ready(self, after: str | None = None) -> None:
        """Wait for a page other than `after`, or for the end."""
        self.until(
            lambda _: (
                (self.one("#trial").get_attribute("aria-busy") == "false" and self.trial() != after)
                or self.one("#thanks").is_displayed()
            )
        )

    def trial(self) -> str | None:
        return self.driver.execute_script("return trial && trial.trial")

    def type(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def rate(self, scores: list[int]) -> None:
        """By keyboard alone: a digit plays a sound and goes to its slider, arrows and page keys move it."""
        from selenium.webdriver.common.keys import Keys

        for place, score in enumerate(scores, 1):
            self.type(str(place), Keys.HOME, *[Keys.PAGE_UP] * (score // 10), *[Keys.ARROW_RIGHT] * (score % 10))

    def save(self) -> None:
        before = self.trial()
        self.one("#save").click()
        self.ready(before)


def test_raters_are_understood_who_rate_through_the_page(
    driver: object, simulation: ModuleType, run: Path, tmp_path: Path
) -> None:
    desk = open_desk(run, tmp_path / "ratings.sqlite", kind="mushra", seed=7)
    given = {}
    with served(desk) as url:
        for name in [*(f"rater-{number:02d}" for number in range(10)), simulation.CARELESS]:
            rater = simulation.SimulatedRater(name, seed=7)
            page = Page(driver, url)
            page.begin(name)
            while (trial := page.trial()) is not None:
                item, systems = desk.behind(name, trial)
                assert not page.one("#save").is_enabled()
                scores = [rater.score(system, item) for system in systems.values()]
                page.rate(scores)
                given |= {(name, item, system): score for system, score in zip(systems.values(), scores, strict=True)}
                page.save()
                if name == "rater-00":  # who closes the page goes on at the next
                    page = Page(driver, url)
                    page.begin(name)
            assert page.one("#thanks").is_displayed()
            assert not page.one("#error").is_displayed()
    assert {(score.rater, score.item, score.stimulus): score.score for score in desk.store.scores()} == given
    report = analyse(desk.store)
    assert [row.stimulus for row in report.scores] == ["reference", "clean", "leaky", "muddy", "anchor"]
    assert [row.rater for row in report.raters if row.excluded] == [simulation.CARELESS]
    assert all(row.difference.low > 0.0 for row in report.differences)


def test_preferences_through_the_page(driver: object, simulation: ModuleType, run: Path, tmp_path: Path) -> None:
    desk = open_desk(run, tmp_path / "ab.sqlite", kind="ab", seed=7)
    with served(desk) as url:
        for name in ("anna", "bert", "cleo"):
            rater = simulation.SimulatedRater(name, seed=7)
            page = Page(driver, url)
            page.begin(name)
            while (trial := page.trial()) is not None:
                systems = list(desk.behind(name, trial)[1].values())
                for button in page.all("#pair button"):
                    button.click()
                page.one(f"input[value={rater.choice(*systems)}]").click()
                page.save()
    report = analyse(desk.store)
    assert (report.n_raters, report.n_answers) == (3, 27)
    assert [row.system for row in report.strengths] == ["clean", "leaky", "muddy"]


def test_an_answer_waits_for_the_server(driver: object, run: Path, tmp_path: Path) -> None:
    desk = open_desk(run, tmp_path / "ratings.sqlite", kind="mushra")
    with served(desk) as url:
        page = Page(driver, url)
        page.begin("anna")
        page.rate([50, 60, 70, 80, 100])
        driver.set_network_conditions(offline=True, latency=0, throughput=0)
        page.one("#save").click()
        page.until(lambda _: page.one("#error").is_displayed())
        assert "Nothing is lost" in page.one("#error").text
        assert desk.store.scores() == []
        driver.delete_network_conditions()
        page.save()
        assert [score.score for score in desk.store.scores()] == [50, 60, 70, 80, 100]
        assert not page.one("#error").is_displayed()


def test_the_page_fits_a_phone_and_names_its_controls(driver: object, run: Path, tmp_path: Path) -> None:
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    with served(open_desk(run, tmp_path / "ratings.sqlite", kind="mushra")) as url:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        page = Page(driver, url)
        page.begin("anna")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 360
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.one("summary").click()
        shown = [one for one in page.all("#trial button, #trial input, #trial progress") if one.is_displayed()]
        names = [control.accessible_name.strip() for control in shown]
        assert all(names)
        assert {"Reference", "Mixture", "Sound 5", "Score of sound 5, 0 to 100", "Repeat from", "Repeat to"} <= set(
            names
        )
        assert page.one(".row input").get_attribute("aria-valuetext") == "not rated"


_SWITCH = """
const done = arguments[arguments.length - 1];
(async () => {
  const n = 16000, context = new OfflineAudioContext(1, n, 16000);
  const player = new listening.Player(context, 0);
  for (const [name, base] of [["one", 0.0], ["two", 0.5]]) {
    const buffer = context.createBuffer(1, n / 2, 16000), samples = buffer.getChannelData(0);
    for (let at = 0; at < n / 2; at++) samples[at] = base + 0.4 * at / (n / 2);
    player.add(name, buffer);
  }
  player.select("one");
  player.play();
  context.suspend(0.256).then(() => { player.select("two"); context.resume(); });
  done(Array.from((await context.startRendering()).getChannelData(0)));
})();
"""


def test_a_switch_leaves_no_gap_and_keeps_the_place(driver: object, run: Path, tmp_path: Path) -> None:
    """Two ramps half a unit apart: what is heard tells which sound plays and where in it, sample by sample."""
    with served(open_desk(run, tmp_path / "ratings.sqlite", kind="mushra")) as url:
        Page(driver, url)
        heard = np.array(driver.execute_async_script(_SWITCH))
    ramp = np.tile(0.4 * np.arange(8000) / 8000, 2)  # it begins again without a gap too
    switch, fade = 4096, 160
    np.testing.assert_allclose(heard[fade:switch], ramp[fade:switch], atol=1e-5)
    np.testing.assert_allclose(heard[switch + fade :], 0.5 + ramp[switch + fade :], atol=1e-5)
    between = heard[switch : switch + fade] - ramp[switch : switch + fade]
    assert np.diff(between).min() > -1e-6  # straight from one to the other, never lower
