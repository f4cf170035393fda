"""Block by block: the same samples as at once, whatever the header says, from WAV to sound tracks of films."""

import io
import os

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from marssep.audio import AudioFile, AudioWriter, Extras, encode_audio, read_audio, write_audio
from marssep.audio.riff import kept_chunks, start_chunk
from marssep.errors import InputError, OutputError

av = pytest.importorskip("av")


def _noise(channels, length, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, length))).astype(np.float32)


def _joined(file, frames, **kind):
    return np.concatenate(list(file.blocks(frames, **kind)), axis=1)


@given(st.integers(1, 4), st.integers(1, 40000), st.integers(1, 20000), st.sampled_from(["PCM_16", "FLOAT"]))
def test_blocks_are_the_whole_and_may_be_read_again(channels, length, frames, subtype):
    data = encode_audio(_noise(channels, length), sample_rate=8000, format="WAV", subtype=subtype)
    with AudioFile(io.BytesIO(data), name="a") as file:
        first = list(file.blocks(frames))
        assert {block.shape[1] for block in first[:-1]} <= {frames}
        np.testing.assert_array_equal(_joined(file, 777), np.concatenate(first, axis=1))
        assert sum(block.shape[1] for block in first) == length == file.frames_hint


def test_a_file_that_is_removed_while_it_is_read_is_read_to_its_end(tmp_path):
    write_audio(tmp_path / "a.wav", _noise(2, 50000), sample_rate=8000)
    with AudioFile(tmp_path / "a.wav") as file:
        blocks = file.blocks(10000)
        next(blocks)
        (tmp_path / "a.wav").unlink()
        assert sum(block.shape[1] for block in blocks) == 40000
        assert _joined(file, 9999).shape == (2, 50000)


def test_wide_samples_keep_their_bits():
    integers = np.array([[1, -(1 << 31), (1 << 31) - 1, 12345678]], dtype=np.int32)
    buffer = io.BytesIO()
    import soundfile

    soundfile.write(buffer, integers.T, 8000, format="WAV", subtype="PCM_32")
    buffer.seek(0)
    with AudioFile(buffer, name="a") as file:
        assert file.wide
        np.testing.assert_array_equal(_joined(file, 10, dtype="float64") * 2.0**31, integers)


def _lying(data, said, riff=0):
    data = bytearray(data)
    at = data.find(b"data")
    data[4:8], data[at + 4 : at + 8] = riff.to_bytes(4, "little"), said.to_bytes(4, "little")
    return io.BytesIO(bytes(data))


@pytest.mark.parametrize("said", [0, 100, 4000, 0xFFFFFFFF, 10**9])
def test_a_length_that_lies_costs_no_samples(said):
    waveform = _noise(2, 30000)
    data = encode_audio(waveform, sample_rate=8000, format="WAV", subtype="PCM_16")
    with AudioFile(_lying(data, said), name="a") as file:
        read = _joined(file, 5000)
    assert read.shape == (2, 30000)
    np.testing.assert_allclose(read, waveform, atol=2e-5)


def test_a_length_that_has_wrapped_around(tmp_path):
    """Four gigabytes and a bit, most of them a hole in the file."""
    data = encode_audio(_noise(2, 1000), sample_rate=48000, format="WAV", subtype="PCM_16")
    at = data.find(b"data") + 8
    length = (1 << 32) + 40000
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.write(data[: at - 4] + (40000).to_bytes(4, "little"))
        file.write(np.full(30000, 257, np.int16).tobytes())
        file.seek(at + length - 2)
        file.write(b"\1\1")
    assert path.stat().st_size == at + length
    with AudioFile(path) as file:
        assert file.frames_hint == length // 4
        block = next(file.blocks(20000))
    assert (block[:, :15000] == np.float32(257 / 32768)).all()


@pytest.mark.parametrize(
    "trailer", [b"LIST\x04\x00\x00\x00INFO", b"ID3\x03" + bytes(3000), b"TAG" + b"x" * 125, bytes(999)]
)
def test_what_follows_the_samples_is_not_taken_for_sound(trailer):
    data = encode_audio(_noise(1, 3000), sample_rate=8000, format="WAV", subtype="PCM_16")
    with AudioFile(io.BytesIO(data + trailer), name="a") as file:
        assert _joined(file, 5000).shape == (1, 3000)


@pytest.mark.parametrize(
    ("format", "subtype"), [("W64", "PCM_24"), ("RF64", "FLOAT"), ("CAF", "PCM_16"), ("OGG", "OPUS")]
)
def test_other_formats_are_read_in_blocks(tmp_path, format, subtype):
    import soundfile

    soundfile.write(tmp_path / "a", _noise(2, 30000).T, 48000, format=format, subtype=subtype)
    with AudioFile(tmp_path / "a") as file:
        assert (file.sample_rate, file.channels, file.subtype) == (48000, 2, subtype)
        assert _joined(file, 4096).shape == (2, 30000)


def test_tags_and_broadcast_chunks_are_read_and_written(tmp_path):
    extras = Extras({"title": "Morgen", "artist": "Ä. B."}, {b"bext": start_chunk(2.5, 8000)})
    with AudioWriter(tmp_path / "a.wav", sample_rate=8000, channels=2, subtype="PCM_16", extras=extras) as writer:
        writer.write(_noise(2, 1001))
        writer.finish()
        assert not (tmp_path / "a.wav").exists()
        writer.publish()
    with AudioFile(tmp_path / "a.wav") as file:
        assert file.tags["title"], file.tags["artist"] == ("Morgen", "Ä. B.")
        assert file.chunks() == dict(extras.chunks)
        assert int.from_bytes(file.chunks()[b"bext"][338:346], "little") == 20000
        assert _joined(file, 500).shape == (2, 1001)


def test_a_wav_beyond_4_gib_is_an_rf64(tmp_path):
    extras = Extras(chunks={b"bext": start_chunk(1.0, 8000)})
    writer = AudioWriter(
        tmp_path / "a.wav", sample_rate=8000, channels=2, subtype="FLOAT", frames=1 << 30, extras=extras
    )
    with writer:
        writer.write(_noise(2, 1000))
        writer.finish()
        writer.publish()
    data = (tmp_path / "a.wav").read_bytes()
    assert data[:4] == b"RF64"
    assert int.from_bytes(data[20:28], "little") == len(data) - 8
    with (tmp_path / "a.wav").open("rb") as file:
        assert kept_chunks(file) == dict(extras.chunks)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav").waveform, _noise(2, 1000))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_no_room_is_one_sentence_and_nothing_is_left(tmp_path):
    (tmp_path / "a.wav.partial").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="cannot be written"):
        write_audio(tmp_path / "a.wav", _noise(1, 1_000_000), sample_rate=8000)
    assert list(tmp_path.iterdir()) == []


def _film(path, codec, rate=44100, *, picture=None, seconds=1.0, layout="stereo", delay=0.0, **tags):
    """A file with a tone in its sound track and, if asked, a moving picture."""
    import fractions

    with av.open(str(path), "w") as container:
        container.metadata.update(tags)
        video = None
        if picture:
            video = container.add_stream(picture, rate=10)
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
        stream = container.add_stream(codec, rate=rate, layout=layout)
        time = np.arange(round(rate * seconds)) / rate
        tone = np.stack([0.4 * np.sin(2 * np.pi * 440 * time), 0.2 * np.sin(2 * np.pi * 880 * time)])
        if video is not None:
            for index in range(round(10 * (seconds + delay))):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * index % 255, np.uint8), format="rgb24")
                frame.pts = index
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        whole = av.AudioFrame.from_ndarray(tone.astype(np.float32), format="fltp", layout="stereo")
        whole.sample_rate, whole.time_base = rate, fractions.Fraction(1, rate)
        whole.pts = round(delay * rate)
        for frame in av.AudioResampler(format=stream.codec_context.format, layout=layout, rate=rate).resample(whole):
            fifo, first = av.AudioFifo(), frame.pts
            frame.pts = None
            fifo.write(frame)
            while part := fifo.read(stream.codec_context.frame_size or 1024, partial=True):
                part.pts, part.time_base = first, fractions.Fraction(1, rate)
                first += part.samples
                container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return tone


FILMS = [
    ("a.m4a", "aac", None), ("a.mp4", "aac", "mpeg4"), ("a.mkv", "libopus", "libx264"), ("a.webm", "libopus", "libvpx"),
    ("a.mov", "pcm_s16le", "mpeg4"), ("a.mkv", "flac", None), ("a.avi", "pcm_s16le", "mpeg4"), ("a.m4a", "alac", None),
    ("a.ts", "aac", None), ("a.aac", "aac", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "codec", "picture"), FILMS)
def test_sound_tracks_are_read(tmp_path, name, codec, picture):
    rate = 48000 if "opus" in codec else 44100
    tone = _film(tmp_path / name, codec, rate, picture=picture)
    with AudioFile(tmp_path / name) as file:
        assert (file.sample_rate, file.channels) == (rate, 2)
        read = _joined(file, 5000)
        np.testing.assert_array_equal(_joined(file, 4096), read)
    lossless = codec.startswith(("pcm", "flac", "alac"))
    assert file.subtype == {"pcm_s16le": "PCM_16", "alac": "PCM_24"}.get(codec, file.subtype)
    if lossless:
        np.testing.assert_allclose(read, tone, atol=5e-5)
        return
    assert abs(read.shape[1] - tone.shape[1]) < 6000  # codecs pad both ends
    middle = read[:, 10000:30000]
    for channel, hertz in enumerate((440, 880)):
        spectrum = np.abs(np.fft.rfft(middle[channel] * np.hanning(20000)))
        assert abs(spectrum.argmax() * rate / 20000 - hertz) < 5
        assert np.sqrt(2) * middle[channel].std() == pytest.approx(0.4 / (1 + channel), rel=0.05)


def test_the_start_and_tags_of_a_sound_track(tmp_path):
    _film(tmp_path / "a.mkv", "flac", picture="mpeg4", delay=0.5, title="Morgen")
    with AudioFile(tmp_path / "a.mkv") as file:
        assert file.start == pytest.approx(0.5, abs=0.01)
        assert file.tags["title"] == "Morgen"


def test_a_film_without_sound_and_a_cut_film(tmp_path):
    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(video.encode(None))
    with pytest.raises(InputError, match="no sound track"):
        AudioFile(tmp_path / "mute.mp4")
    _film(tmp_path / "a.mkv", "libopus", 48000, seconds=3.0)
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    assert 30000 < read_audio(tmp_path / "cut.mkv").waveform.shape[1] < 130000


def test_without_pyav_the_sentence_says_what_to_install(tmp_path, monkeypatch):
    _film(tmp_path / "a.m4a", "aac")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(InputError, match=r"install marssep\[video\]"):
        AudioFile(tmp_path / "a.m4a")


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
@pytest.mark.parametrize("understated", [0, 500])
def test_mp3_behind_a_tag_that_understates_its_length(rate, understated):
    held = io.BytesIO()
    soundfile.write(held, _noise(1, 2 * rate).T, rate, format="MP3")
    data = held.getvalue()
    with AudioFile(io.BytesIO(data), name="plain") as file:
        wanted = _joined(file, 4096)
    tag = b"ID3\x03\0\0" + bytes([0, 0, understated >> 7, understated & 127])
    # what looks like a frame in the rest of the tag is none: no other follows it
    rest = bytes(600) + b"\xff\xfb\x90\x64" + bytes(400)
    with AudioFile(io.BytesIO(tag + rest + data), name="tagged") as file:
        np.testing.assert_array_equal(_joined(file, 4096), wanted)
