"""Every protocol on a few made items; the ancestors' against a second implementation, number for number."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile
import torch
from PIL import Image

from marssep.audio import write_audio
from marssep.corpus.mixing import MixtureSpec
from marssep.corpus.store import Corpus
from marssep.errors import CorpusError, SettingsError, UsageError
from marssep.evaluate import EvaluateSettings
from marssep.evaluate.material import ListMaterial
from marssep.evaluate.protocol import Contestants, evaluate_all
from marssep.evaluate.protocols import LAYOUTS, load_protocol, open_protocol, protocol_names
from marssep.evaluate.protocols.clean_plus import CleanPlusMaterial, CleanPlusSettings
from marssep.evaluate.protocols.demand import DemandSettings, demand_material
from marssep.evaluate.protocols.esc50 import draw_pairs
from marssep.metrics import snr_db
from marssep.metrics.bss import load_museval
from marssep.separate import Separator
from marssep.separate.adapting import learn_whole

Build = Callable[..., Separator]
RATE, LENGTH = 16000, 16383
BANDS = {"drone": (100, 800), "chatter": (1500, 3500), "hiss": (5500, 7500)}
QUICK = EvaluateSettings(
    modalities=("text",), baselines=("mixture", "oracle_stft"), bss_mixtures=0, resamples=20, strata_db=()
)


def noise(label: str, seconds: float, seed: int, rate: int = RATE) -> np.ndarray:
    n = round(seconds * rate)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(n))
    hertz, (low, high) = np.fft.rfftfreq(n, 1 / rate), BANDS[label]
    made = np.fft.irfft(spectrum * ((hertz >= low) & (hertz <= high)), n)
    return (0.3 * made / np.abs(made).max()).astype(np.float32)


def sound(path: Path, label: str, *, seconds: float = 1.0, seed: int = 0, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, noise(label, seconds, seed, rate), sample_rate=rate, subtype="PCM_16")


# --- the ancestors' evaluation, written a second time without a line of ours -----------------------------------------


def their_rows(path: Path) -> list[list[str]]:
    with path.open() as lines:
        return [row for row in csv.reader(lines) if len(row) >= 2]


def their_sound(root: Path, row: list[str]) -> np.ndarray:
    rate, raw = scipy.io.wavfile.read(root / row[0])
    assert rate == RATE
    raw = raw / 32768.0
    if raw.shape[0] < LENGTH:
        raw = np.tile(raw, int(LENGTH / raw.shape[0]) + 1)
    centre = int((int(row[2]) // 2 - 0.5) / 1.0 * RATE)
    start, end = max(0, centre - LENGTH // 2), min(raw.shape[0], centre + LENGTH // 2)
    audio = np.zeros(LENGTH, dtype=np.float32)
    audio[(LENGTH // 2 - (centre - start)) : (LENGTH // 2 + (end - centre))] = raw[start:end]
    return np.clip(audio, -1, 1) / 2


def their_pair(root: Path, place: int) -> tuple[np.ndarray, np.ndarray]:
    targets, others = their_rows(root / "targets.csv"), their_rows(root / "others.csv")
    random.seed(place)
    other = others[random.randint(0, len(others) - 1)]
    return their_sound(root, targets[place]), their_sound(root, other)


def their_stft(waveform: np.ndarray) -> np.ndarray:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    padded = np.pad(waveform.astype(np.float64), 512)
    return np.stack([np.fft.rfft(window * padded[at : at + 1024]) for at in range(0, len(padded) - 1023, 256)], axis=1)


def their_istft(spectrum: np.ndarray) -> np.ndarray:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    total = np.zeros(256 * (spectrum.shape[1] - 1) + 1024)
    weight = np.zeros_like(total)
    for number, frame in enumerate(spectrum.T):
        at = 256 * number
        total[at : at + 1024] += window * np.fft.irfft(frame)
        weight[at : at + 1024] += window**2
    return np.clip((total[512:-512] / weight[512:-512]), -1.0, 1.0).astype(np.float32)


def their_scores(target: np.ndarray, other: np.ndarray, mask: np.ndarray | None) -> list[float]:
    """SDR, SIR, SAR of a mask, or of the mixture given for both sources."""
    mixture = their_stft(target + other)
    estimates = [their_istft(mixture)] * 2 if mask is None else [their_istft(m * mixture) for m in (mask, 1 - mask)]
    length = len(estimates[0])
    truth = np.asarray([target[:length], other[:length]])
    sdr, _, sir, sar, _ = load_museval().bss_eval(truth, np.asarray(estimates), np.inf)
    return [sdr[0, 0], sir[0, 0], sar[0, 0]]


def adapted_mask(separator: Separator, mixture: np.ndarray, label: str) -> np.ndarray:
    """The mask that a target was made by, on the bins of the STFT."""
    spectral = separator.model.spectral
    proposed = separator.separate((mixture, RATE), text=label, gate=False)
    whole = spectral.stft(torch.from_numpy(mixture)[None], RATE)
    masks, spectrum = torch.from_numpy(proposed.grid_mask)[None], whole.numpy()
    with learn_whole(whole, masks, RATE, spectral, directions=False) as adaptation:
        made = adaptation.apply(spectrum, proposed.mask)
    return np.abs(np.divide(made, spectrum, out=np.zeros_like(made), where=spectrum != 0))[0]


@pytest.fixture(scope="module")
def clean_plus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two targets, one of them too short, and a third whose sound is missing; four other sounds."""
    root = tmp_path_factory.mktemp("clean")
    targets, others = [], []
    for number, (label, seconds, frames) in enumerate([("drone", 4.0, 4), ("chatter", 0.6, 2), ("hiss", 3.0, 3)]):
        name = f"data/vggsound/audio/x/t{number}.wav"
        if number < 2:
            sound(root / name, label, seconds=seconds, seed=number)
        targets.append([name, f"data/vggsound/frames/t{number}", str(frames), label])
    for number in range(4):
        name = f"data/vggsound/audio/y/o{number}.wav"
        sound(root / name, "hiss", seconds=2.5, seed=10 + number)
        others.append([name, "none", "3", "hiss"])
    for name, rows in (("targets.csv", targets), ("others.csv", [*others, ["a bad row"]])):
        with (root / name).open("w", newline="") as out:
            csv.writer(out).writerows(rows)
    for number in (1, 2, 3):
        path = root / f"data/vggsound/frames/t0/{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(path)
    return root


def settings_of(length: int = LENGTH) -> CleanPlusSettings:
    return CleanPlusSettings(targets="targets.csv", interferers="others.csv", length=length)


def test_the_ancestors_protocol_number_for_number(clean_plus: Path, separator_with: Build) -> None:
    material = CleanPlusMaterial.open("clean", clean_plus, settings_of())
    separator = separator_with(0.2)
    report = evaluate_all(material, Contestants({"bands": separator}), settings=QUICK)
    by_row = {(score.mixture, score.system): score for score in report.scores}
    for place, label in enumerate(("drone", "chatter")):
        target, other = their_pair(clean_plus, place)
        rendered = material.render(material.tasks[place])
        np.testing.assert_array_equal(rendered.mixture.numpy(), target + other)
        np.testing.assert_array_equal(rendered.sources[0].numpy(), target)
        powers = [np.abs(their_stft(waveform)) ** 2 for waveform in (target, other)]
        ours = adapted_mask(separator, target + other, label)
        masks = {"mixture": None, "oracle_stft": powers[0] / (powers[0] + powers[1] + 1e-30), "model": ours}
        for system, mask in masks.items():
            score = by_row[material.tasks[place].id, system]
            figures = [score.bss_sdr_db, score.bss_sir_db, score.bss_sar_db]
            theirs = np.minimum(their_scores(target, other, mask), 100.0)  # beyond it both measure rounding errors
            np.testing.assert_allclose(np.minimum(figures, 100.0), theirs, atol=0.002, err_msg=system)
    missing = [problem for problem in report.results.problems if problem.mixture.startswith("000002")]
    assert [problem.what for problem in missing] == ["not there: data/vggsound/audio/x/t2.wav"]
    row = report.results.row("model", "text")
    assert (row.bss.n, report.results.mixtures.n_mixtures) == (2, 3)


def test_the_ancestors_settings_and_queries(clean_plus: Path) -> None:
    kept = CleanPlusSettings()
    assert (kept.sample_rate, kept.length, kept.hop, kept.frames_per_second) == (16000, 65535, 256, 1.0)
    material = CleanPlusMaterial.open("clean", clean_plus, settings_of())
    assert len(material.pictures(material.tasks[0].queries[0].image)) == 3
    assert material.tasks[1].queries[0].image is None
    with pytest.raises(CorpusError, match=r"has no list 'nothing\.csv'"):
        CleanPlusMaterial.open("clean", clean_plus, CleanPlusSettings(targets="nothing.csv"))
    assert load_protocol("vggsound-clean+")[1].clean_plus.targets == "data/vggsound/test-good.csv"
    assert load_protocol("music-clean+")[1].clean_plus.interferers == "data/vggsound/test-good-no-music.csv"


def test_protocols_are_data() -> None:
    wanted = {"open-test", "vggsound-clean+", "music-clean+", "esc50-mix", "fuss", "demand", "musdb-like"}
    assert wanted <= set(protocol_names())
    for name in protocol_names():
        assert load_protocol(name)[1].layout in LAYOUTS
    assert load_protocol("open-test")[1].lists == ("open-test", "open-test-3", "open-test-4")
    with pytest.raises(SettingsError, match="did you mean 'open-test'"):
        load_protocol("open-tset")
    with pytest.raises(UsageError, match="--data"):
        list(open_protocol("fuss"))
    with pytest.raises(UsageError, match="--corpus"):
        list(open_protocol("open-test"))


def test_esc50(tmp_path: Path, separator_with: Build) -> None:
    clips = {"1-1-A-0.wav": "drone", "1-2-A-1.wav": "chatter", "1-3-A-2.wav": "hiss"}
    for seed, (name, label) in enumerate(clips.items()):
        sound(tmp_path / "audio" / name, label, seed=seed, rate=32000)
    (tmp_path / "meta").mkdir()
    table = "filename,category\n" + "".join(f"{name},{label}\n" for name, label in clips.items())
    (tmp_path / "meta" / "esc50.csv").write_text(table)
    [material] = open_protocol("esc50-mix", data=tmp_path)
    assert [task.queries[0].text for task in material.tasks] == list(clips.values())
    rendered = material.render(material.tasks[0])
    assert snr_db(rendered.mixture[None], rendered.sources).item() == pytest.approx(0.0, abs=1e-4)
    report = evaluate_all(material, Contestants({"bands": separator_with(0.1)}), settings=QUICK)
    assert report.results.row("model", "text").si_sdr_improvement_db.mean == pytest.approx(20.0, rel=0.05)
    # AudioSep's list with ready-made files is taken as it is
    (tmp_path / "esc50_eval.csv").write_text("idx,caption,target,noise\n7,drone,1-1-A-0.wav,1-2-A-1.wav\n")
    for name in ("mixture", "segment"):
        sound(tmp_path / f"{name}-7.wav", "drone", seed=5)
    [ready] = open_protocol("esc50-mix", data=tmp_path)
    made = ready.render(ready.tasks[0])
    assert (len(ready.tasks), made.sample_rate, made.mixture.shape[-1]) == (1, 32000, 32000)
    np.testing.assert_array_equal(made.mixture.numpy(), made.sources[0].numpy())


def test_partners_are_of_another_class_and_drawn_by_place() -> None:
    labels = {f"{number}.wav": str(number % 5) for number in range(40)}
    pairs = draw_pairs(labels)
    assert [pair.target for pair in pairs] == sorted(labels)
    assert all(labels[pair.target] != labels[pair.noise] for pair in pairs)
    assert draw_pairs(dict(reversed(labels.items()))) == pairs
    assert len({pair.noise for pair in pairs}) > 15


def test_stems(tmp_path: Path) -> None:
    for stem, label in (("vocals", "chatter"), ("bass", "drone"), ("other", "hiss")):
        sound(tmp_path / "test" / "A - Song" / f"{stem}.wav", label, seconds=1.0)
        sound(tmp_path / "test" / "broken" / f"{stem}.wav", label, seconds=1.0 if stem == "bass" else 0.5)
    sound(tmp_path / "test" / "broken" / "mixture.wav", "hiss", seconds=1.0)
    sound(tmp_path / "train" / "B" / "vocals.wav", "chatter")
    [material] = open_protocol("musdb-like", data=tmp_path)
    assert [task.id for task in material.tasks] == ["A_-_Song", "broken"]
    assert [query.text for query in material.tasks[0].queries] == ["singing", "bass guitar"]
    rendered = material.render(material.tasks[0])
    assert rendered.sources.shape == (2, RATE)
    rest = (rendered.mixture - rendered.sources.sum(0)).numpy()
    assert np.abs(rest).max() > 0.1  # the stem that nobody asks for
    report = evaluate_all(material, Contestants(), settings=QUICK)
    assert [(p.mixture, p.query) for p in report.results.problems] == [("broken", None)]
    assert "stems and mixture must match" in report.results.problems[0].what
    assert report.results.row("oracle_stft").si_sdr_improvement_db.n == 2


def test_fuss(tmp_path: Path) -> None:
    folder = tmp_path / "ssdata" / "eval"
    for name, label in (("background0_sound", "drone"), ("foreground0_sound", "hiss")):
        sound(folder / "example00000_sources" / f"{name}.wav", label)
    with pytest.raises(CorpusError, match="FUSS names no classes"):
        list(open_protocol("fuss", data=tmp_path))
    (tmp_path / "labels.csv").write_text(
        "mixture,source,label\nexample00000.wav,foreground0_sound.wav,hiss\nexample00001.wav,x.wav,dog\n"
    )
    [material] = open_protocol("fuss", data=tmp_path)
    assert [(task.id, task.queries[0].label) for task in material.tasks] == [("example00000", "hiss")]
    rendered = material.render(material.tasks[0])
    both = noise("drone", 1.0, 0) + noise("hiss", 1.0, 0)
    np.testing.assert_allclose(rendered.mixture.numpy(), both, atol=1e-4)  # 16-bit files


def test_demand(tmp_path: Path, corpus: Corpus, specs: list[MixtureSpec]) -> None:
    for seed, place in enumerate(("DKITCHEN", "STRAFFIC")):
        sound(tmp_path / place / "ch01.wav", "hiss", seconds=3.0, seed=seed)
    material = demand_material("demand", ListMaterial("bands", specs, corpus), tmp_path, DemandSettings())
    assert [task.id for task in material.tasks[:3]] == ["mix-0-DKITCHEN", "mix-1-STRAFFIC", "mix-2-DKITCHEN"]
    for task, level in zip(material.tasks, (-5.0, 0.0, 5.0, 10.0), strict=False):
        rendered = material.render(task)
        assert snr_db(rendered.mixture[None], rendered.sources).item() == pytest.approx(level, abs=1e-3)
    assert len(material.tasks[0].queries) == 1
    with pytest.raises(CorpusError, match="ch01"):
        demand_material("demand", ListMaterial("bands", specs, corpus), tmp_path / "DKITCHEN" / "x", DemandSettings())


def test_results_say_what_was_evaluated(clean_plus: Path) -> None:
    material = CleanPlusMaterial.open("clean", clean_plus, settings_of())
    settings = QUICK.model_copy(update={"baselines": ("mixture",), "limit": 1})
    results = evaluate_all(material, Contestants(), settings=settings, protocol="vggsound-clean+").results
    assert (results.protocol, results.model.name, results.models) == ("vggsound-clean+", "none", [])
    assert json.loads(results.model_dump_json())["mixtures"]["n_present"] == 1
