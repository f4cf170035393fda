"""Writing: whole files or none, nearest rounding, and sums that stay exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marssep.audio import decode_audio, encode_audio, quantise, read_audio, write_audio
from marssep.errors import OutputError


def _noise(length=1000):
    return (0.3 * np.random.default_rng(1).standard_normal((2, length))).clip(-0.99, 0.99).astype(np.float32)


@given(st.sampled_from([("PCM_U8", 7), ("PCM_16", 15), ("PCM_24", 23)]), st.integers(1, 3000))
def test_integer_samples_are_rounded_to_nearest(kind, length):
    subtype, bits = kind
    waveform = _noise(length)
    read = decode_audio(encode_audio(waveform, sample_rate=8000, format="WAV", subtype=subtype), name="w")
    assert read.subtype == subtype
    np.testing.assert_array_equal(read.waveform, quantise(waveform, subtype=subtype))
    assert np.abs(read.waveform - waveform).max() <= 0.5 / 2**bits + 1e-9


def test_differences_of_rounded_samples_are_written_exactly():
    mixture, part = quantise(_noise(), subtype="PCM_16"), quantise(0.5 * _noise(), subtype="PCM_16")
    rest = mixture - part
    np.testing.assert_array_equal(quantise(rest, subtype="PCM_16"), rest)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_real_subtypes_are_left_alone(subtype):
    assert quantise(_noise(), subtype=subtype) is not None
    np.testing.assert_array_equal(quantise(_noise(), subtype=subtype), _noise())


def test_32_bits_are_rounded_in_double_precision():
    rounded = quantise(_noise(), subtype="PCM_32")
    assert rounded.dtype == np.float64
    np.testing.assert_array_equal(rounded * 2.0**31, np.rint(_noise().astype(np.float64) * 2.0**31))


def test_integer_subtypes_clip_and_float_does_not():
    loud = np.array([2.0, -2.0], np.float32)
    for subtype, peak in (("PCM_16", 1.0), ("PCM_24", 1.0), ("PCM_32", 1.0), ("FLOAT", 2.0)):
        read = decode_audio(encode_audio(loud, sample_rate=8000, format="WAV", subtype=subtype), name="w").waveform
        np.testing.assert_allclose(read, [[peak, -peak]], atol=1e-4)


def test_minutes_of_vorbis_are_written():
    data = encode_audio(np.zeros(32000 * 120, np.float32), sample_rate=32000)
    assert decode_audio(data, name="o").waveform.shape == (1, 32000 * 120)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    write_audio(tmp_path / "a.wav", _noise(), sample_rate=8000)
    with pytest.raises(OutputError, match="cannot write 'ALAC_16'"):
        write_audio(tmp_path / "a.wav", _noise(), sample_rate=8000, subtype="ALAC_16")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert read_audio(tmp_path / "a.wav").waveform.shape == (2, 1000)


def test_refuses_unknown_formats_and_missing_folders(tmp_path):
    with pytest.raises(OutputError, match="cannot write 'xyz'"):
        write_audio(tmp_path / "a.xyz", _noise(), sample_rate=8000)
    with pytest.raises(OutputError, match="cannot be written"):
        write_audio(tmp_path / "none" / "a.wav", _noise(), sample_rate=8000)
