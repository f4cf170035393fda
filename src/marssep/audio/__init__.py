"""Files to waveforms and back: reading, writing, rates and channels; the only room that touches soundfile and soxr."""

from marssep.audio.codecs import Codecs, codecs
from marssep.audio.files import Audio, check_waveform, decode_audio, read_audio
from marssep.audio.frames import read_frame
from marssep.audio.naming import EXTENSIONS, slug
from marssep.audio.reading import AudioFile
from marssep.audio.resampling import resample, to_mono
from marssep.audio.writing import AudioWriter, Extras, encode_audio, make_folder, quantise, to_steps, write_audio

__all__ = [
    "EXTENSIONS",
    "Audio",
    "AudioFile",
    "AudioWriter",
    "Codecs",
    "Extras",
    "check_waveform",
    "codecs",
    "decode_audio",
    "encode_audio",
    "make_folder",
    "quantise",
    "read_audio",
    "read_frame",
    "resample",
    "slug",
    "to_mono",
    "to_steps",
    "write_audio",
]
