"""Miniature copies of the layouts of published corpora, with clips that are missing and rows that are broken."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from marssep.audio import read_frame, write_audio
from marssep.corpus.inspection import find_faults
from marssep.corpus.manifest import read_manifest

RATE = 16000


def sound(path, seconds=0.5, level=0.3, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = level * np.random.default_rng(seed).uniform(-1, 1, int(seconds * RATE)).astype(np.float32)
    write_audio(path, wave, sample_rate=RATE, subtype="PCM_16")


def picture(path, colour="red"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), colour).save(path)


def table(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as out:
        csv.writer(out).writerows(rows)


def film(path, seconds=1.0):
    """Half a second red, then blue, with a tone."""
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as out:
        video, audio = out.add_stream("mpeg4", rate=10), out.add_stream("aac", rate=RATE)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        for index in range(int(10 * seconds)):
            colour = (200, 0, 0) if index < 5 * seconds else (0, 0, 200)
            frame = av.VideoFrame.from_image(Image.new("RGB", (32, 32), colour))
            for packet in video.encode(frame):
                out.mux(packet)
        wave = (0.3 * np.sin(np.arange(int(RATE * seconds)) / 8)).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate = RATE
        for packet in [*video.encode(), *audio.encode(frame), *audio.encode()]:
            out.mux(packet)


@pytest.fixture
def build(marssep, tmp_path):
    """Build SOURCE by a recipe; gives items, report and exit code."""

    def call(recipe, source):
        ran = marssep("data", "build", recipe, "--source", source, "--output", tmp_path / "out")
        assert ran.code == 0, ran.err
        assert find_faults(tmp_path / "out") == []
        items = read_manifest(tmp_path / "out" / "manifest.jsonl")
        return items, json.loads((tmp_path / "out" / "build-report.json").read_text())

    return call


def test_vggsound(build, tmp_path):
    source = tmp_path / "vgg"
    rows = [
        ("aaa_-1", 5, "dog barking", "train"),
        ("aaa--1", 5, "dog barking", "train"),  # another film, though its name differs by a mark alone
        ("bbb", 30, "playing violin, fiddle", "test"),
        ("gone", 1, "rain", "train"),
        ("silent", 1, "rain", "train"),
        ("damaged", 1, "rain", "train"),
        ("ccc", "x", "rain", "train"),
        ("ddd", 1, "rain", "later"),
        ("too", "few"),
    ]
    table(source / "vggsound.csv", *rows)
    sound(source / "audio" / "aaa_-1_000005.wav")
    sound(source / "audio" / "aaa--1_000005.wav", seed=1)
    film(source / "video" / "bbb_000030.mp4")
    sound(source / "audio" / "silent_000001.wav", level=0.0)
    (source / "audio" / "damaged_000001.wav").write_bytes(b"RIFF no")
    for second in range(3):
        picture(source / "frames" / "aaa_-1_000005" / f"{second:06d}.jpg", ("red", "lime", "blue")[second])
    items, report = build("vggsound", source)
    assert sorted((item.kind, item.label, item.split) for item in items if item.split == "test") == [
        ("audio", "playing_violin_fiddle", "test"),
        ("image", "playing_violin_fiddle", "test"),
    ]
    violin = next(item for item in items if item.label == "playing_violin_fiddle")
    assert violin.captions[0] == "playing violin, fiddle"
    assert violin.recording == "youtube/bbb"
    assert len([item for item in items if item.kind == "audio"]) == 3
    assert report["missing"] == ["gone_000001"]
    assert [fault.split(":")[0] for fault in report["unusable"]] == ["silent_000001", "damaged_000001"]
    assert len(report["broken_rows"]) == 3
    (shown,) = [item for item in items if item.kind == "image" and item.label == "dog_barking"]
    middle = Image.open(tmp_path / "out" / shown.path).convert("RGB").getpixel((112, 112))
    assert middle[1] > 200, "the middle frame is the green one"


def test_a_film_shows_the_picture_at_a_time(tmp_path):
    film(tmp_path / "x.mp4", seconds=2.0)
    assert read_frame(tmp_path / "x.mp4", at=0.1).getpixel((16, 16))[0] > 150
    assert read_frame(tmp_path / "x.mp4", at=0.9).getpixel((16, 16))[2] > 150
    sound(tmp_path / "x.wav")
    assert read_frame(tmp_path / "x.wav") is None


def test_music_is_cut_into_pieces(build, tmp_path):
    source = tmp_path / "music"
    source.mkdir()
    (source / "MUSIC_solo_videos.json").write_text(json.dumps({"videos": {"violin": ["v1", "v2"], "tuba": "t1"}}))
    sound(source / "solo" / "violin" / "v1.wav", seconds=31)
    items, report = build("music", source)
    assert len(items) == 3
    assert {(item.label, item.recording) for item in items} == {("violin", "youtube/v1")}
    assert len({item.split for item in items}) == 1
    assert report["missing"] == ["v2"]
    assert "tuba" in report["broken_rows"][0]


def test_audiocaps_gathers_the_words_of_a_clip(build, tmp_path):
    source = tmp_path / "caps"
    head = ("audiocap_id", "youtube_id", "start_time", "caption")
    table(source / "train.csv", head, (1, "aa", 30, "a dog barks"), (2, "gone", 0, "rain"), (3, "bb", "x", "wind"))
    table(source / "test.csv", head, (4, "cc", 10, "a man talks"), (5, "cc", 10, "speech"), (6, "cc", 10, " "))
    sound(source / "train" / "1.wav")
    sound(source / "test" / "Ycc.wav", seed=1)
    items, report = build("audiocaps", source)
    captions = {item.split: item.captions for item in items}
    assert captions == {"train": ("a dog barks",), "test": ("a man talks", "speech")}
    assert report["missing"] == ["gone_0"]
    assert len(report["broken_rows"]) == 2


def test_fsd50k_takes_the_most_special_label_and_the_clips_licence(build, tmp_path):
    source = tmp_path / "fsd"
    truth = source / "FSD50K.ground_truth"
    head = ("fname", "labels", "mids", "split")
    table(truth / "dev.csv", head, (11, "Bark,Dog,Animal", "m", "val"), (12, "", "m", "train"), ("x", "Rain", "m"))
    table(truth / "eval.csv", head[:3], (13, "Rain,Water", "m"), (14, "Rain", "m"))
    (source / "FSD50K.metadata").mkdir()
    (source / "FSD50K.metadata" / "dev_clips_info_FSD50K.json").write_text('{"11": {"license": "CC0"}}')
    sound(source / "FSD50K.dev_audio" / "11.wav")
    sound(source / "FSD50K.eval_audio" / "13.wav", seed=1)
    items, report = build("fsd50k", source)
    assert [(item.label, item.split, item.licence[:3]) for item in items] == [
        ("bark", "val", "CC0"),
        ("rain", "test", "CC "),
    ]
    assert "bark, dog, animal" in items[0].captions
    assert (report["missing"], len(report["broken_rows"])) == (["14"], 2)


def test_lists_of_the_ancestors(build, tmp_path):
    clipsep = tmp_path / "clipsep"
    row = "data/vggsound/audio/aa_000001.wav", "data/vggsound/frames/aa_000001.mp4", 10, "dog barking"
    table(clipsep / "train.csv", row, ("data/x.wav", "f", "ten", "rain"), ("data/gone.wav", "f", 3, "rain"), ("one",))
    sound(clipsep / "audio" / "aa_000001.wav")
    picture(clipsep / "frames" / "aa_000001.mp4" / "000003.jpg")
    items, report = build("clipsep", clipsep)
    assert [(item.kind, item.label, item.recording) for item in items] == [
        ("audio", "dog_barking", "youtube/aa"),
        ("image", "dog_barking", "youtube/aa"),
    ]
    assert (report["missing"], len(report["broken_rows"])) == (["gone"], 2)


def test_audiosep_lists(build, tmp_path):
    source = tmp_path / "audiosep"
    source.mkdir()
    rows = [
        {"wav": "/data/a.wav", "caption": "a cat meows"},
        {"wav": "/data/b.wav"},
        3,
        {"wav": "c.wav", "caption": "x"},
    ]
    (source / "train.json").write_text(json.dumps({"data": rows}))
    sound(source / "a.wav")
    items, report = build("audiosep", source)
    assert [(item.captions, item.split) for item in items] == [(("a cat meows",), "train")]
    assert (report["missing"], len(report["broken_rows"])) == (["c"], 2)


def test_stems_of_musdb_and_sources_of_fuss(build, tmp_path, marssep):
    songs = tmp_path / "musdb"
    for stem in ("vocals", "drums", "other"):
        sound(songs / "train" / "A - Song" / f"{stem}.wav", seconds=21)
    items, report = build("musdb", songs)
    assert {(item.label, item.group) for item in items} == {("singing", "sound"), ("drum_kit", "instrument")}
    assert len(items) == 4
    assert report["missing"] == ["A - Song/bass"]
    fuss = tmp_path / "fuss"
    sound(fuss / "validation" / "example1_sources" / "foreground0_sound.wav")
    ran = marssep("data", "build", "fuss", "--source", fuss, "--output", tmp_path / "x")
    assert ran.code == 1
    assert "FUSS names no classes" in ran.err
    head = ("mixture", "source", "label")
    table(
        fuss / "labels.csv",
        head,
        ("example1.wav", "foreground0_sound.wav", "Dog"),
        ("example1", "gone", "Cat"),
        ("a", "", ""),
    )
    items, report = build("fuss", fuss)
    assert [(item.label, item.split) for item in items] == [("dog", "val")]
    assert (report["missing"], len(report["broken_rows"])) == (["example1/gone"], 1)


def test_places_of_demand(build, tmp_path):
    source = tmp_path / "demand"
    sound(source / "DKITCHEN" / "ch01.wav", seconds=25)
    sound(source / "DKITCHEN" / "ch02.wav", seconds=25)
    (source / "PSTATION").mkdir()
    items, report = build("demand", source)
    assert {item.label for item in items} == {"kitchen_noise"}
    assert (len(items), report["missing"]) == (2, ["PSTATION"])


def test_any_folder_of_labels(build, tmp_path):
    source = tmp_path / "mine"
    sound(source / "train" / "Old Door" / "a.wav")
    picture(source / "train" / "Old Door" / "a.png")
    sound(source / "test" / "Old Door" / "b.wav", seed=1)
    sound(source / "stray.wav", seed=2)
    items, report = build("folder", source)
    assert [(item.kind, item.label, item.split) for item in items] == [
        ("audio", "old_door", "test"),
        ("audio", "old_door", "train"),
        ("image", "old_door", "train"),
    ]
    assert "stray.wav" in report["broken_rows"][0]


@pytest.mark.parametrize(
    "recipe", ["vggsound", "music", "audiocaps", "fsd50k", "clipsep", "audiosep", "fuss", "folder"]
)
def test_a_folder_without_the_list_is_named(recipe, tmp_path, marssep):
    (tmp_path / "empty").mkdir()
    ran = marssep("data", "build", recipe, "--source", tmp_path / "empty", "--output", tmp_path / "out")
    assert ran.code == 1
    assert str(tmp_path / "empty") in ran.err or "none is below" in ran.err
    assert marssep("data", "build", recipe, "--output", tmp_path / "out").code == 1


def test_a_list_of_which_nothing_is_there(tmp_path, marssep):
    table(tmp_path / "vgg" / "vggsound.csv", ("aaa", 1, "rain", "train"))
    ran = marssep("data", "build", "vggsound", "--source", tmp_path / "vgg", "--output", tmp_path / "out")
    assert ran.code == 1
    assert "of 1 clips in the list none is below" in ran.err
    assert not (tmp_path / "out").exists()
