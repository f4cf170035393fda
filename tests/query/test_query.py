import numpy as np
import pytest
import torch
from PIL import Image

from marssep.audio import write_audio
from marssep.errors import InputError, UsageError
from marssep.query import Query, embed_query, fuse, load_encoder
from marssep.runtime.pictures import load_image


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("tiny")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"negative": "rain"},
        {"text": "  "},
        {"text": "dog", "negative": ""},
        {"text": "dog", "negative": ["rain", " "]},
    ],
)
def test_refuses_a_query_with_nothing_in_it(fields):
    with pytest.raises(UsageError, match=r"nothing in it|no words"):
        Query(**fields)


def test_files_and_values_mean_the_same(encoder, tmp_path):
    waveform = 0.1 * np.random.default_rng(0).standard_normal((2, 8000)).astype(np.float32)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8))
    write_audio(tmp_path / "q.wav", waveform, sample_rate=22050)
    picture.save(tmp_path / "q.png")
    by_file = Query(audio=tmp_path / "q.wav", image=str(tmp_path / "q.png"))
    by_value = Query(audio=(waveform, 22050), image=picture)
    torch.testing.assert_close(embed_query(by_file, encoder), embed_query(by_value, encoder))


def test_all_modalities_are_fused_with_the_querys_weights(encoder):
    picture, waveform = Image.new("RGB", (9, 9), "red"), np.ones(500, np.float32)
    weights = {"audio": 5.0}
    query = Query(text="dog", audio=(waveform, 16000), image=picture, weights=weights)
    embeddings = {
        "text": encoder.embed_text(["dog"])[0],
        "audio": encoder.embed_audio(torch.ones(1, 500), sample_rate=16000)[0],
        "image": encoder.embed_image([picture])[0],
    }
    torch.testing.assert_close(embed_query(query, encoder), fuse(embeddings, weights))


def test_a_negative_moves_the_embedding_only_if_asked(encoder):
    dog, rain = encoder.embed_text(["dog", "rain"])
    torch.testing.assert_close(embed_query(Query(text="dog", negative="rain"), encoder), dog)
    moved = embed_query(Query(text="dog", negative="rain", negative_in="embedding"), encoder)
    torch.testing.assert_close(moved.norm(), torch.tensor(1.0))
    assert moved @ rain < dog @ rain


def test_several_negatives_are_one_direction_away_from_all(encoder):
    dog, rain, bell = encoder.embed_text(["dog", "rain", "bell"])
    moved = embed_query(Query(text="dog", negative=("rain", "bell"), negative_in="embedding"), encoder)
    mean = torch.nn.functional.normalize(rain + bell, dim=0)
    torch.testing.assert_close(moved, torch.nn.functional.normalize(1.5 * dog - 0.5 * mean, dim=0))
    assert Query(text="dog", negative="rain").negatives == ("rain",)
    assert Query(text="dog").negatives == ()


def test_pictures_that_cannot_be_used_are_named(tmp_path):
    with pytest.raises(InputError, match="no such picture"):
        load_image(tmp_path / "missing.png")
    (tmp_path / "notes.png").write_text("not a picture")
    with pytest.raises(InputError, match=r"notes\.png.*cannot be read"):
        load_image(tmp_path / "notes.png")
    Image.new("RGB", (300, 300), "red").save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:200])
    with pytest.raises(InputError, match=r"cut\.png"):
        load_image(tmp_path / "cut.png")


@pytest.mark.parametrize("waveform", [np.zeros(0, np.float32), np.array([0.0, np.nan], np.float32)])
def test_waveforms_that_cannot_be_used_are_refused(encoder, waveform):
    with pytest.raises(InputError, match="empty or has samples"):
        embed_query(Query(audio=(waveform, 16000)), encoder)
