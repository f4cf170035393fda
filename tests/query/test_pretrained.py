import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from marssep.errors import ModelError, UsageError
from marssep.query import load_encoder, new_encoder, save_heads
from marssep.query.pretrained import parts
from marssep.query.pretrained.pictures import PictureFrontEnd
from marssep.query.pretrained.sounds import ClapFrontEnd, KaldiFrontEnd, reflect_to_multiple, window_starts
from marssep.query.pretrained.words import Words

transformers = pytest.importorskip("transformers")
CLAP = {
    "feature_size": 64,
    "sampling_rate": 48000,
    "hop_length": 480,
    "max_length_s": 10,
    "fft_window_size": 1024,
    "frequency_min": 50,
    "frequency_max": 14000,
}


def noise(n, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


def music(n, rate=48000):
    """Loud and quiet, so that the floor of the logarithm is met as well."""
    time = np.arange(n) / rate
    return (np.sin(2 * np.pi * 440 * time) * np.exp(-2 * time) + 1e-4 * noise(n)).astype(np.float32)


def middle(choices):
    return choices[len(choices) // 2]


def seconds(duration):
    return int(duration * 48000)


@pytest.mark.parametrize("fusion", [False, True])
@pytest.mark.parametrize("length", [700, seconds(0.7), seconds(3), seconds(10), seconds(10) + 300, seconds(23.4)])
def test_clap_hears_what_the_library_hears(fusion, length, monkeypatch):
    """Noise to 0.002 dB; beside a loud tone, in bands 100 dB below it, 32 bits leave 0.07 dB (docs/encoders.md)."""
    theirs = transformers.ClapFeatureExtractor(**CLAP, truncation="fusion" if fusion else "rand_trunc")
    ours = ClapFrontEnd(CLAP, fusion=fusion)
    monkeypatch.setattr(np.random, "choice", middle)  # it takes parts at random
    for sound, largest in ((noise(length), 2e-3), (music(length), 0.07)):
        heard = ours(torch.from_numpy(sound)[None])
        starts = window_starts(length, ours.length) if not fusion else [0]
        for window, start in enumerate(starts):
            part = sound[start : start + ours.length] if not fusion else sound
            wanted = theirs(part, sampling_rate=48000, return_tensors="np")["input_features"][0]
            assert heard.features[window].shape == wanted.shape
            difference = np.abs(heard.features[window].numpy() - wanted)
            assert difference.max() < largest
            assert difference[wanted > wanted.max() - 60].max(initial=0.0) < 2e-3
        assert heard.windows == len(starts)
        assert bool(heard.longer[0]) == (fusion and length > seconds(10.01))


@pytest.mark.filterwarnings("ignore:At least one mel filter")  # narrower than a row of the spectrum, in Kaldi too
def test_kaldi_filters_are_those_of_the_library():
    theirs = transformers.ASTFeatureExtractor(do_normalize=False, max_length=98)
    sound = noise(16000)
    wanted = theirs(sound, sampling_rate=16000, return_tensors="np")["input_values"][0]
    made = KaldiFrontEnd()(torch.from_numpy(sound)[None])[0].numpy()
    assert made.shape == wanted.shape
    assert np.abs(made - wanted).max() < 2e-3  # of logarithms from -16 to 3


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 41])
def test_the_reflected_end_is_that_of_the_library(length):
    theirs = transformers.PeAudioFeatureExtractor(sampling_rate=8000, hop_length=16)
    sound = noise(length)
    wanted = theirs(sound, sampling_rate=8000, return_tensors="np")["input_values"][0]
    made = reflect_to_multiple(torch.from_numpy(sound)[None], 16)
    np.testing.assert_array_equal(made.numpy(), wanted)


def picture(width, height):
    rows = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(rows)


@pytest.mark.parametrize("size", [(31, 57), (300, 200), (224, 224), (7, 5)])
def test_pictures_are_prepared_as_the_library_does(size, tmp_path):
    for theirs in (transformers.CLIPImageProcessorPil(), transformers.SiglipImageProcessorPil()):
        folder = tmp_path / type(theirs).__name__
        theirs.save_pretrained(folder)
        wanted = theirs(picture(*size), return_tensors="np")["pixel_values"]
        made = PictureFrontEnd.read(folder)([picture(*size)]).numpy()
        assert np.abs(made - wanted).max() < 1e-6


def test_the_new_kind_of_processor_file_is_read_too(tmp_path):
    stated = {"do_center_crop": True, "size": 8, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": stated}))
    assert PictureFrontEnd.read(tmp_path)([picture(9, 12)]).shape == (1, 3, 8, 8)


def test_a_picture_preparation_that_cuts_nothing_is_refused(tmp_path):
    stated = {"do_center_crop": False, "size": {"shortest_edge": 8}, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    with pytest.raises(ModelError, match="not understood"):
        PictureFrontEnd.read(tmp_path)


def test_words_are_numbered_as_the_library_does(made_models):
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(made_models.clap / "tokenizer.json"))
    theirs.pad_token = "<pad>"
    texts = ["a dog barks", "rain", "x" * 100]
    wanted = theirs(texts, padding=True, truncation=True, max_length=60, return_tensors="pt")
    numbers, real = Words(made_models.clap, longest=60, padding=1)(texts)
    torch.testing.assert_close(numbers, wanted["input_ids"])
    torch.testing.assert_close(real, wanted["attention_mask"])


def test_whole_models_agree_with_the_library(made_models):
    """Same folder, the library's own way through extractor and model."""
    sound = noise(5000)
    for place, fusion in ((made_models.clap, False), (made_models.fused, True)):
        processor = json.loads((place / "preprocessor_config.json").read_text())
        extract = transformers.ClapFeatureExtractor(**processor, truncation="fusion" if fusion else "rand_trunc")
        model = transformers.ClapModel.from_pretrained(place).eval()
        features = extract(sound, sampling_rate=8000, return_tensors="pt")["input_features"].float()
        longer = torch.zeros(1, 1, dtype=torch.bool)
        with torch.no_grad():
            wanted = model.get_audio_features(features, is_longer=longer).pooler_output
        made = load_encoder(f"transformers:clap={place}").embed_audio(torch.from_numpy(sound)[None], sample_rate=8000)
        torch.testing.assert_close(made, wanted, atol=2e-6, rtol=0)


def test_the_open_codec_gives_what_the_closed_one_gives(made_models):
    model = transformers.PeAudioModel.from_pretrained(made_models.pe_a).eval()
    sound = torch.from_numpy(noise(801))[None]
    with torch.no_grad():
        wanted = model.get_audio_embeds(reflect_to_multiple(sound, 8)[:, None])
    made = load_encoder(f"transformers:pe-a={made_models.pe_a}").embed_audio(sound, sample_rate=8000)
    torch.testing.assert_close(made, torch.nn.functional.normalize(wanted, dim=-1), atol=1e-6, rtol=0)


def test_long_clips_are_heard_to_the_end(made_models):
    encoder = load_encoder(f"transformers:clap={made_models.clap}")
    sound = torch.from_numpy(noise(8000 * 5 + 17))[None].requires_grad_()
    encoder.embed_audio(sound, sample_rate=8000)[0, 0].backward()
    # edges aside, the models see every second of it
    assert all(float(part.abs().max()) > 0 for part in sound.grad[0, 100:-100].split(4000))
    assert window_starts(25, 10) == [0, 8, 15]
    assert window_starts(10, 10) == [0]


def test_pe_av_sees_hears_and_reads(made_models, tmp_path, monkeypatch, pe_av_model):
    """Its own vision tower needs timm; here a ViT stands in its place, all else is the library's."""
    place = tmp_path / "pe-av"
    pe_av_model(place)
    model = pe_av_model.model
    monkeypatch.setattr(parts, "load_model", lambda folder: model.requires_grad_(False).eval())
    encoder = new_encoder(f"transformers:pe-av={place}")
    assert encoder.modalities == ("text", "audio", "image")
    sound = torch.from_numpy(noise(2000))[None].requires_grad_()
    heard = encoder.embed_audio(sound, sample_rate=8000)
    seen = encoder.embed_image([picture(40, 30), picture(9, 9)])
    heard[0, 0].backward()
    assert float(sound.grad.abs().max()) > 0
    lengths = torch.cat([heard.detach(), seen, encoder.embed_text(["a dog"])]).norm(dim=-1)
    torch.testing.assert_close(lengths, torch.ones(4))


def test_joined_parts_need_heads_and_take_them(made_models, tmp_path):
    name = made_models.specifications["clap+clip"]
    with pytest.raises(ModelError, match="different spaces"):
        load_encoder(name)
    encoder = new_encoder(name)
    save_heads(encoder, tmp_path / "heads.safetensors")
    again = load_encoder(f"{name},heads={tmp_path / 'heads.safetensors'}")
    assert again.fingerprint == encoder.fingerprint
    torch.testing.assert_close(again.embed_text(["rain"]), encoder.embed_text(["rain"]))


def test_the_first_part_that_can_takes_a_modality(made_models):
    encoder = new_encoder(f"transformers:clip={made_models.clip},clap={made_models.clap}")
    assert [encoder.text_features(["a"]).shape[1], encoder.audio_features(torch.zeros(1, 9), 8000).shape[1]] == [10, 12]


def test_fingerprints_follow_the_content_not_the_place(made_models, tmp_path):
    shutil.copytree(made_models.clip, tmp_path / "copy")
    first, second = (new_encoder(f"transformers:clip={place}") for place in (made_models.clip, tmp_path / "copy"))
    assert first.fingerprint == second.fingerprint == first.trunks
    processor = tmp_path / "copy" / "preprocessor_config.json"
    processor.write_text(processor.read_text().replace("0.5", "0.6"))
    assert new_encoder(f"transformers:clip={tmp_path / 'copy'}").trunks != first.trunks


def test_what_an_encoder_lacks_is_said(made_models):
    encoder = load_encoder(f"transformers:clap={made_models.clap}")
    with pytest.raises(UsageError, match=r"no part for image; add one \(clip or siglip or pe-av or open\)"):
        encoder.embed_image([picture(5, 5)])
    assert encoder.read_images([picture(5, 5)]) is None


@pytest.mark.parametrize("stated", ["", "clap", "clap=", "clap=a,clap=b", "heads=a", "beats=a"])
def test_specifications_that_make_no_sense(stated):
    with pytest.raises(UsageError, match=r"KIND=PLACE|no part is called 'beats'"):
        new_encoder(f"transformers:{stated}")
    with pytest.raises(UsageError, match="no parts"):
        new_encoder("tiny:clap=a")


def refused(place, kind="clip"):
    with pytest.raises(ModelError) as caught:
        new_encoder(f"transformers:{kind}={place}")
    return str(caught.value)


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_pickles_foreign_code_and_unknown_classes_are_refused(made_models, tmp_path):
    place = tmp_path / "model"
    shutil.copytree(made_models.clip, place)
    assert "not clap" in refused(place, "clap")
    change(place, model_type="llama")
    assert "type 'llama'" in refused(place)
    change(place, model_type="clip", auto_map={"AutoModel": "evil.Model"})
    assert "code of its own" in refused(place)
    (place / "model.safetensors").unlink()
    torch.save({}, place / "pytorch_model.bin")
    assert "marssep models convert" in refused(place)


def test_damaged_folders_are_named(made_models, tmp_path):
    place = tmp_path / "model"
    shutil.copytree(made_models.clip, place)
    weights = place / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert "cannot be loaded" in refused(place)
    weights.write_bytes(whole)
    change(place, projection_dim=11)
    assert "weights" in refused(place) or "cannot be loaded" in refused(place)
    (place / "tokenizer.json").write_text("{")
    change(place, projection_dim=10)
    assert "not a tokenizer" in refused(place)
    (place / "config.json").write_text("[]")
    assert "not a JSON object" in refused(place)
    assert "no such folder" in refused(tmp_path / "nowhere" / "deeper")
    (tmp_path / "empty").mkdir()
    assert "no *.safetensors" in refused(tmp_path / "empty")


def test_the_hub_is_looked_for_in_the_cache_only(monkeypatch):
    import huggingface_hub

    asked = []

    def snapshot(name, **options):
        asked.append((name, options))
        raise FileNotFoundError(name)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert "hf download laion/clap" in refused("laion/clap", "clap")
    assert asked == [("laion/clap", {"local_files_only": True})]


def test_an_old_library_is_named(made_models, monkeypatch):
    from marssep.query.pretrained import door

    monkeypatch.setattr(door, "_library", lambda: SimpleNamespace(__version__="4.0"))
    assert "transformers 4.0 has no CLIPModel" in refused(made_models.clip)
