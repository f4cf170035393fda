"""The sounds of a page: equally loud, equally long, ready for a browser; and the anchor."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64

from marssep.audio import encode_audio, read_audio
from marssep.errors import InputError, UsageError
from marssep.evaluate.kept import KeptItem, read_kept_audio
from marssep.evaluate.listening.study import ANCHOR, REFERENCE

LOUDNESS_LUFS = -23.0
"""EBU R 128; what is louder or softer than another sound must not give it away."""
PEAK = 10.0 ** (-1.0 / 20.0)
"""Highest sample on a page, -1 dB of full scale."""
ANCHOR_HZ = 3500.0
"""Pass band of the low anchor (BS.1534-3)."""
_STOP_HZ = 4000.0
_STOP_DB = 60.0  # BS.1534-3 asks for 25 dB at 4 kHz and 50 dB at 4.5 kHz; this has 60 dB from 4 kHz on
_SILENCE = 1e-12  # mean power, -120 dB of full scale
_PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


@dataclass(frozen=True, slots=True)
class Prepared:
    """One item, ready to be played: WAV files of 16 bits.

    Attributes:
        item: what was kept.
        rated: the hidden reference, the anchor and each system, by name.
        mixture: the recording that the sound was asked out of.
        question_sound: the recording it was asked with, if any.
        picture: the picture it was asked with, as media type and bytes, if any.
        seconds: length of every sound but `question_sound`.
    """

    item: KeptItem
    rated: dict[str, bytes]
    mixture: bytes
    question_sound: bytes | None
    picture: tuple[str, bytes] | None
    seconds: float


def prepare(run: Path, item: KeptItem, systems: Sequence[str]) -> Prepared:
    """Read an item's recordings and make its page's sounds.

    All sounds are brought to one loudness; if one then exceeds -1 dB of full scale, all of the page are turned down by
    as much. A silent estimate stays silent: it is what the system answered.

    Raises:
        InputError: if a recording is broken, or the mixture or the reference is silent.
        UsageError: if the rate is too low for the anchor or pyloudnorm is missing.
    """
    audio = read_kept_audio(run, item)
    for name, waveform in (("mixture", audio.mixture), ("reference", audio.reference)):
        if is_silent(waveform):
            path = run / getattr(item, name)
            raise InputError(f"{path}: is silent, nothing can be rated against it; take its line out of items.jsonl.")
    sounds = {f"rated/{system}": audio.estimates[system] for system in systems}
    sounds[f"rated/{REFERENCE}"] = audio.reference
    sounds[f"rated/{ANCHOR}"] = low_anchor(audio.mixture, sample_rate=audio.sample_rate)
    sounds["mixture"] = audio.mixture
    equal = equally_loud(sounds, sample_rate=audio.sample_rate)
    wav = {
        name: encode_audio(waveform, sample_rate=audio.sample_rate, format="WAV", subtype="PCM_16")
        for name, waveform in equal.items()
    }
    return Prepared(
        item,
        {name.removeprefix("rated/"): data for name, data in wav.items() if name.startswith("rated/")},
        wav["mixture"],
        _question_sound(run, item),
        _picture(run, item),
        audio.mixture.shape[1] / audio.sample_rate,
    )


def checksum(prepared: Sequence[Prepared]) -> str:
    """SHA-256 of all that is played, in order."""
    digest = hashlib.sha256()
    for page in prepared:
        for name, data in sorted(page.rated.items()):
            digest.update(name.encode() + hashlib.sha256(data).digest())
        digest.update(page.mixture)
    return digest.hexdigest()


def equally_loud(
    sounds: dict[str, np.ndarray], *, sample_rate: int, loudness: float = LOUDNESS_LUFS
) -> dict[str, np.ndarray]:
    """Scale each sound `[c, n]` to the same integrated loudness (ITU-R BS.1770-4), none above -1 dB of full scale."""
    gained = {}
    for name, waveform in sounds.items():
        level = loudness_lufs(waveform, sample_rate=sample_rate)
        gain = 10.0 ** ((loudness - level) / 20.0) if np.isfinite(level) else 1.0
        gained[name] = (waveform * gain).astype(np.float32)
    highest = max(float(np.abs(waveform).max()) for waveform in gained.values())
    down = np.float32(min(1.0, PEAK / highest) if highest > 0.0 else 1.0)
    return {name: waveform * down for name, waveform in gained.items()}


def loudness_lufs(waveform: Float32[np.ndarray, "c n"], *, sample_rate: int) -> float:
    """Integrated loudness (ITU-R BS.1770-4) by pyloudnorm; minus infinity for silence or below the absolute gate.

    A sound shorter than the standard's block of 400 ms is one block.

    Raises:
        UsageError: if pyloudnorm is not installed.
    """
    if is_silent(waveform):
        return -np.inf
    try:
        import pyloudnorm
    except ImportError:
        raise UsageError("Listening studies need pyloudnorm; run 'pip install marssep[listen]'.") from None
    block = min(0.4, waveform.shape[1] / sample_rate)
    meter = pyloudnorm.Meter(sample_rate, block_size=block)
    with np.errstate(divide="ignore"):
        return float(meter.integrated_loudness(waveform.T.astype(np.float64)))


def low_anchor(mixture: Float32[np.ndarray, "c n"], *, sample_rate: int) -> Float32[np.ndarray, "c n"]:
    """The mixture without what lies above 3.5 kHz (the low anchor of BS.1534-3, made of the mixture).

    For codecs the anchor is the low-passed reference. Of a separation that would be an excellent one: the sound asked
    for, alone, a little dull. The defects met here are other sounds left in and bandwidth lost, so the anchor has both:
    nothing was separated and the band is cut. A filter of linear phase, its delay taken out, keeps it in step.

    Raises:
        UsageError: if the rate cannot hold 4 kHz.
    """
    import scipy.signal

    if sample_rate <= 2 * _STOP_HZ:
        raise UsageError(f"The anchor needs recordings above {2 * _STOP_HZ:.0f} Hz, not {sample_rate} Hz.")
    taps = anchor_filter(sample_rate)
    padded = np.pad(mixture, ((0, 0), (len(taps) // 2, len(taps) // 2)))
    return scipy.signal.fftconvolve(padded, taps[None], mode="valid", axes=1).astype(np.float32)


@functools.lru_cache(maxsize=4)
def anchor_filter(sample_rate: int) -> Float64[np.ndarray, " taps"]:
    """Taps of the low-pass: flat within 0.1 dB to 3.5 kHz, 60 dB down from 4 kHz; odd in number."""
    import scipy.signal

    width = (_STOP_HZ - ANCHOR_HZ) / (0.5 * sample_rate)
    n, beta = scipy.signal.kaiserord(_STOP_DB + 2.0, width)
    centre = 0.5 * (ANCHOR_HZ + _STOP_HZ)
    return scipy.signal.firwin(n | 1, centre, window=("kaiser", beta), fs=sample_rate)


def is_silent(waveform: np.ndarray) -> bool:
    """Whether the mean power lies below -120 dB of full scale."""
    return float(np.square(waveform, dtype=np.float64).mean()) < _SILENCE


def _question_sound(run: Path, item: KeptItem) -> bytes | None:
    if item.audio is None:
        return None
    audio = read_audio(run / item.audio)
    sound = equally_loud({"": audio.waveform}, sample_rate=audio.sample_rate)[""]
    return encode_audio(sound, sample_rate=audio.sample_rate, format="WAV", subtype="PCM_16")


def _picture(run: Path, item: KeptItem) -> tuple[str, bytes] | None:
    if item.image is None:
        return None
    path = run / item.image
    media_type = _PICTURES.get(path.suffix.lower())
    if media_type is None:
        raise InputError(f"{path}: browsers show {', '.join(_PICTURES)}; convert the picture.")
    return media_type, path.read_bytes()
