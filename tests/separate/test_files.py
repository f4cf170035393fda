"""From file to files: the same sound as in memory, sums that are exact, names, resuming, cancelling, drawing."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import soundfile

from marssep import Query, Separator, read_audio
from marssep.errors import CancelledError, InputError
from marssep.separate import FileSettings
from marssep.separate.bundle import Bundle, Layout
from marssep.separate.streaming import Stream

RATE = 16000
DOG, RAIN = Query(text="dog"), Query(text="rain")


@pytest.fixture(scope="module")
def separator(tiny_model):
    return Separator.load(tiny_model)


def _with(separator, **changes):
    config = separator.model.config.model_copy(update=changes)
    return Separator(dataclasses.replace(separator.model, config=config), separator.encoder)


def _file(path, *, subtype="PCM_16", seconds=9.0, gain=0.1, channels=2, **kind):
    waveform = gain * np.random.default_rng(0).standard_normal((round(RATE * seconds), channels))
    soundfile.write(path, waveform, RATE, subtype=subtype, **kind)
    return path


def _left(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("block_seconds", [None, 0.3, 2.0])
@pytest.mark.parametrize("gate", [True, False])
def test_files_hold_what_memory_gives(separator, tmp_path, block_seconds, gate):
    path = _file(tmp_path / "in.wav", subtype="FLOAT")
    never = _with(separator, presence_threshold=1.1, absent_attenuation_db=20.0)
    settings = FileSettings(gate=gate, block_seconds=block_seconds)
    (result,) = never.separate_file(path, [DOG], tmp_path / "out", settings=settings)
    memory = never.separate(path, text="dog", gate=gate)
    np.testing.assert_allclose(read_audio(result.files.target).waveform, memory.target, atol=1e-6, rtol=0)
    assert result.row["presence"] == pytest.approx(memory.presence, abs=1e-5)
    assert result.row["attenuated_db"] == (20.0 if gate else 0.0)
    assert result.row["input_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert json.loads(result.files.sidecar.read_text()) == result.row


@pytest.mark.parametrize(
    ("subtype", "written"),
    [("PCM_U8", "PCM_16"), ("PCM_16", "PCM_16"), ("PCM_24", "PCM_24"), ("PCM_32", "PCM_32"), ("FLOAT", "FLOAT")],
)
@pytest.mark.parametrize("loud", [False, True])
def test_sums_are_exact_in_every_sample_format(separator, tmp_path, subtype, written, loud):
    """Also where a peak of target or residual does not fit, and in real numbers that came from a converter."""
    path = tmp_path / "in.wav"
    steps = np.random.default_rng(1).standard_normal((3 * RATE, 2)) * (3.0 if loud else 0.1)
    on_grid = np.clip(np.rint(steps * 2.0**23) / 2.0**23, -1.0, 1.0 - 2.0**-23)
    soundfile.write(path, on_grid, RATE, subtype=subtype)
    (result,) = separator.separate_file(path, [DOG], tmp_path / "out", settings=FileSettings(gate=False))
    mixture, _ = soundfile.read(path)
    target, _ = soundfile.read(result.files.target)
    residual, _ = soundfile.read(result.files.residual)
    assert np.abs(target).max() > 0.01
    np.testing.assert_array_equal(target + residual, mixture)
    kind = soundfile.info(result.files.target).subtype
    assert kind == result.row["written"] == soundfile.info(result.files.residual).subtype
    peak = max(np.abs(target).max(), np.abs(residual).max())
    assert kind == (("DOUBLE" if written == "PCM_32" else "FLOAT") if peak >= 1.0 else written)


def test_a_target_that_passes_full_scale_is_noticed(tmp_path):
    """Alone: where the residual fits although the target does not."""
    target, mixture = np.array([[1.25, 0.5]], np.float32), np.array([[0.75, 0.5]], np.float32)
    for subtype in ("PCM_16", "PCM_24", "PCM_32"):
        layout = Layout(RATE, 1, 2)
        with Bundle([tmp_path / "t.wav"], tmp_path / "r.wav", layout=layout, subtype=subtype) as bundle:
            bundle.write([0.5 * target], mixture)
            assert not bundle.clipped
            bundle.write([target], mixture)
            assert bundle.clipped


def test_numbers_that_no_converter_makes_add_up_to_the_last_bit(separator, tmp_path):
    path = _file(tmp_path / "in.wav", subtype="FLOAT", gain=1.7)
    (result,) = separator.separate_file(path, [DOG], tmp_path / "out")
    target, residual, mixture = (
        read_audio(part).waveform for part in (result.files.target, result.files.residual, path)
    )
    larger = np.maximum(np.abs(target), np.abs(residual))
    error = np.abs(target.astype(np.float64) + residual - mixture)
    assert (error <= np.spacing(larger) / 2).all()


@pytest.mark.parametrize("threshold", [0.0, 1.1])
def test_a_wrong_guess_of_presence_costs_a_render_and_changes_nothing(separator, tmp_path, monkeypatch, threshold):
    path, model = _file(tmp_path / "in.wav"), _with(separator, presence_threshold=threshold)
    (right,) = model.separate_file(path, [DOG], tmp_path / "right")
    honest, renders = Stream.guesses, []

    def opposite(stream, *, gate):
        return [
            dataclasses.replace(each, attenuated_db=40.0 - each.attenuated_db) for each in honest(stream, gate=gate)
        ]

    def counted(stream, wanted, **options):
        renders.append(wanted)
        return render(stream, wanted, **options)

    render = Stream.render
    monkeypatch.setattr(Stream, "render", counted)
    model.separate_file(path, [DOG], tmp_path / "again")
    assert len(renders) == 1
    monkeypatch.setattr(Stream, "guesses", opposite)
    (wrong,) = model.separate_file(path, [DOG], tmp_path / "wrong")
    assert len(renders) == 3
    assert right.files.target.read_bytes() == wrong.files.target.read_bytes()
    assert right.files.residual.read_bytes() == wrong.files.residual.read_bytes()
    assert right.row["attenuated_db"] == wrong.row["attenuated_db"] == (40.0 if threshold else 0.0)


def test_shares_add_up_and_have_one_rest(separator, tmp_path):
    path = _file(tmp_path / "in.wav")
    settings = FileSettings(shares=True, gate=False)
    first, second = separator.separate_file(path, [DOG, RAIN], tmp_path / "out", settings=settings)
    assert first.files.residual == second.files.residual
    assert first.files.residual.name == "in.rest.residual.wav"
    parts = [soundfile.read(part)[0] for part in (first.files.target, second.files.target, first.files.residual)]
    np.testing.assert_array_equal(sum(parts), soundfile.read(path)[0])
    alone, _ = separator.separate_queries(path, [DOG, RAIN])
    both = separator.separate_queries(path, [DOG, RAIN], shares=True)
    assert (both[0].grid_mask + both[1].grid_mask).max() < 1.0
    assert (both[0].grid_mask < alone.grid_mask).mean() > 0.9


def test_several_queries_give_what_each_gives_alone(separator, tmp_path):
    path = _file(tmp_path / "in.wav")
    queries = [DOG, Query(text="rain", negative="dog"), Query(text="bell")]
    together = separator.separate_file(path, queries, tmp_path / "out")
    for query, result in zip(queries, together, strict=True):
        (alone,) = separator.separate_file(path, [query], tmp_path / "alone")
        difference = read_audio(alone.files.target).waveform - read_audio(result.files.target).waveform
        assert np.abs(difference).max() <= 2 / 32768


def test_resume_leaves_alone_what_is_finished_and_only_that(separator, tmp_path):
    path = _file(tmp_path / "in.wav", seconds=1.0)
    out, resume = tmp_path / "out", FileSettings(resume=True)
    (first,) = separator.separate_file(path, [DOG], out, settings=resume)
    again = separator.separate_file(path, [DOG, RAIN], out, settings=resume)
    assert [result.skipped for result in again] == [True, False]
    assert again[0].row == first.row
    with first.files.residual.open("r+b") as file:
        file.truncate(1000)
    assert not separator.separate_file(path, [DOG], out, settings=resume)[0].skipped
    assert separator.separate_file(path, [DOG], out, settings=resume)[0].skipped
    for changed in ({"gate": False}, {"adapt": False}):
        settings = FileSettings(resume=True, **changed)
        assert not separator.separate_file(path, [DOG], out, settings=settings)[0].skipped
    other = _with(separator, presence_threshold=0.123)  # the same weights, and another verdict
    for one in (other, separator):
        assert not one.separate_file(path, [DOG], out, settings=resume)[0].skipped
    _file(path, seconds=1.1)  # the name is the same, the contents are not
    assert not separator.separate_file(path, [DOG], out, settings=resume)[0].skipped


def test_skip_existing_asks_for_names_only(separator, tmp_path):
    path = _file(tmp_path / "in.wav", seconds=1.0)
    skip = FileSettings(skip_existing=True)
    assert not separator.separate_file(path, [DOG], tmp_path / "out", settings=skip)[0].skipped
    _file(path, seconds=1.1)
    (result,) = separator.separate_file(path, [DOG], tmp_path / "out", settings=skip)
    assert result.skipped
    assert result.row is None


@pytest.mark.parametrize("after", [0.0, 0.3, 0.6, 0.95])
def test_the_callback_can_cancel_and_nothing_is_left(separator, tmp_path, after):
    seen = []

    def watch(progress):
        seen.append(progress)
        return progress.share < after

    path = _file(tmp_path / "in.wav", seconds=30.0)
    settings = FileSettings(block_seconds=0.5)
    with pytest.raises(CancelledError, match="cancelled"):
        separator.separate_file(path, [DOG], tmp_path / "out", settings=settings, watch=watch)
    assert _left(tmp_path) == ["in.wav"]
    assert {progress.stage for progress in seen} <= {"propose", "adapt", "render"}


def test_progress_only_grows_and_ends_at_one(separator, tmp_path):
    seen = []
    strict = _with(separator, presence_threshold=1.1)  # the render must be repeated
    path = _file(tmp_path / "in.wav", seconds=30.0)
    strict.separate_file(path, [DOG], tmp_path / "out", settings=FileSettings(block_seconds=0.5), watch=seen.append)
    shares = [progress.share for progress in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert seen[-1].seconds == 30.0


def test_a_picture_is_drawn_from_what_was_written(separator, tmp_path):
    path = _file(tmp_path / "in.wav", seconds=70.0)
    (result,) = separator.separate_file(path, [DOG], tmp_path / "out", settings=FileSettings(picture=True))
    assert result.files.picture.read_bytes().startswith(b"\x89PNG")
    assert _left(tmp_path / "out") == ["in.dog.json", "in.dog.png", "in.dog.residual.wav", "in.dog.target.wav"]


def test_tags_and_start_are_kept(separator, tmp_path):
    path = tmp_path / "in.flac"
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_24") as file:
        file.title, file.artist = "Morgen", "Ä. B."
        file.write(0.1 * np.random.default_rng(0).standard_normal(RATE))
    (result,) = separator.separate_file(path, [DOG], tmp_path / "out")
    for part in (result.files.target, result.files.residual):
        with soundfile.SoundFile(part) as file:
            assert (file.title, file.artist, file.subtype) == ("Morgen", "Ä. B.", "PCM_24")


def test_a_file_that_shrinks_while_it_is_read_is_refused(separator, tmp_path):
    path = _file(tmp_path / "in.wav", seconds=60.0)

    def watch(progress):
        if progress.stage == "render":
            with path.open("r+b") as file:
                file.truncate(100_000)

    with pytest.raises(InputError, match="changed while it was read"):
        separator.separate_file(path, [DOG], tmp_path / "out", settings=FileSettings(block_seconds=0.5), watch=watch)
    assert _left(tmp_path) == ["in.wav"]


def test_pictures_of_sounds_are_settled_as_in_memory(separator, tmp_path):
    from PIL import Image

    Image.new("RGB", (30, 20), "red").save(tmp_path / "dog.png")
    path = _file(tmp_path / "in.wav")
    (result,) = separator.separate_file(path, [Query(image=tmp_path / "dog.png")], tmp_path / "out")
    memory = separator.separate(path, image=tmp_path / "dog.png")
    assert result.row["presence"] == pytest.approx(memory.presence, abs=1e-5)
