"""Sound tracks of M4A, video and other containers through PyAV (extra `video`); the only file that touches it."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from marssep.audio.views import View
from marssep.errors import InputError

if TYPE_CHECKING:
    from PIL import Image  # the runtime without torch does without Pillow

# FFmpeg guesses hundreds of formats, play lists that open other files among them; it gets those we know by their first
# bytes, by name.
_SIGNATURES = (
    (4, b"ftyp", "mp4"),
    (4, b"moov", "mp4"),
    (4, b"mdat", "mp4"),
    (4, b"wide", "mp4"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (0, b"FLV\x01", "flv"),
    (0, b"ADIF", "aac"),
    (0, b"\xff\xf1", "aac"),
    (0, b"\xff\xf9", "aac"),
    (0, b"OggS", "ogg"),
    (0, b"wvpk", "wv"),
    (0, b"#!AMR", "amr"),
)
_TAGS = {
    "title": "title", "artist": "artist", "album": "album", "date": "date", "comment": "comment", "genre": "genre",
    "copyright": "copyright", "track": "tracknumber",
}  # fmt: skip
_SUBTYPES = {"u8": "PCM_U8", "s16": "PCM_16", "s32": "PCM_32"}
_DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
_LOSSLESS = ("pcm_", "flac", "alac", "wavpack", "truehd", "mlp", "tta")
_MOST_FAULTS = 1000  # packets in a row that cannot be decoded


@dataclass(frozen=True, slots=True)
class Track:
    """What a container says of its sound.

    Attributes:
        sample_rate: Hz.
        channels: of the track.
        subtype: sample format, by soundfile's names; the codec's name for lossy ones.
        start: seconds after the beginning of the container's time line.
        tags: by soundfile's names.
    """

    sample_rate: int
    channels: int
    subtype: str
    start: float = 0.0
    tags: dict[str, str] = field(default_factory=dict)


def container_format(head: bytes) -> str | None:
    """FFmpeg's name of the container that begins with these bytes (16 are enough); None if it is none we know."""
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[:1] == b"\x47" and len(head) > 188 and head[188:189] == b"\x47":
        return "mpegts"
    return next((name for at, magic, name in _SIGNATURES if head[at : at + len(magic)] == magic), None)


def describe_track(file: io.BufferedIOBase, *, format_name: str, name: str) -> Track:
    """Rate, channels, start and tags of the first sound track.

    Raises:
        InputError: if PyAV is not installed, or there is no sound in it, or it cannot be decoded.
    """
    for track, _ in _decode(file, format_name=format_name, name=name):
        return track
    raise InputError(f"{name}: its sound track is empty (0 samples); there is nothing to separate.")


def track_blocks(file: io.BufferedIOBase, *, format_name: str, name: str) -> Iterator[np.ndarray]:
    """Samples of the first sound track, float32 `[n, c]`, from the beginning."""
    first: Track | None = None
    for track, samples in _decode(file, format_name=format_name, name=name):
        first = first or track
        if (track.sample_rate, track.channels) != (first.sample_rate, first.channels):
            raise InputError(f"{name}: rate or channels change in its course; convert it to WAV or FLAC.")
        yield samples


def decode_picture(file: io.BufferedIOBase, *, format_name: str, name: str, at: float) -> "Image.Image | None":
    """The picture at a share `at` of a film's length, None if there are none in it.

    Raises:
        InputError: if PyAV is not installed or no picture can be decoded.
    """
    av = _library(name, "pictures of films")
    file.seek(0)
    try:
        with av.open(View(file), mode="r", format=format_name) as container:
            if not container.streams.video:
                return None
            stream = container.streams.video[0]
            length = float(container.duration or 0) / av.time_base
            wanted = at * length
            container.seek(int(wanted * av.time_base))  # to a picture before it that stands by itself
            last = None
            for frame in container.decode(stream):
                last = frame
                if frame.time is None or frame.time >= wanted:
                    break
            return None if last is None else last.to_image()
    except (av.FFmpegError, ValueError, EOFError, MemoryError, OverflowError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error or type(error).__name__).strip().splitlines()[0]
        raise InputError(f"{name}: its pictures cannot be decoded ({reason}); give frames as JPEG files.") from None


def film_format(file: io.BufferedIOBase) -> str | None:
    """FFmpeg's name of a container that may hold pictures; None for all other files."""
    file.seek(0)
    found = container_format(file.read(192))
    return found if found in ("mp4", "matroska", "asf", "flv", "avi", "mpegts") else None


def _library(name: str, what: str) -> Any:
    try:
        import av
    except ImportError:
        raise InputError(f"{name}: {what} need PyAV; install marssep[video] or convert it.") from None
    return av


def _decode(file: io.BufferedIOBase, *, format_name: str, name: str) -> Iterator[tuple[Track, np.ndarray]]:
    try:
        import av
    except ImportError:
        raise InputError(
            f"{name}: sound tracks of '{format_name}' files need PyAV; install marssep[video] or convert it to WAV."
        ) from None
    file.seek(0)
    try:
        # The container closes what it was given, so it gets a view that can be closed.
        with av.open(View(file), mode="r", format=format_name) as container:
            if not container.streams.audio:
                raise InputError(f"{name}: there is no sound track in it.")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise InputError(f"{name}: its sound is in a codec that is not known; convert it to WAV or FLAC.")
            yield from _frames(container, stream, av.FFmpegError)
    except (av.FFmpegError, OSError, ValueError, EOFError, MemoryError, OverflowError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error or type(error).__name__).strip().splitlines()[0]
        raise InputError(f"{name}: its sound cannot be decoded ({reason}); convert it to WAV or FLAC.") from None


def _frames(container: Any, stream: Any, fault: type[Exception]) -> Iterator[tuple[Track, np.ndarray]]:
    codec = stream.codec_context.name
    tags = {_TAGS[key]: value for key, value in {**container.metadata, **stream.metadata}.items() if key in _TAGS}
    start: float | None = None
    faults = 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except fault:  # a damaged packet is skipped, as players do
            faults += 1
            if faults > _MOST_FAULTS:
                return
            continue
        for frame in frames:
            faults = 0
            if start is None:
                start = max(0.0, float(frame.time or 0.0))
            samples = _samples(frame)
            if samples.size:
                yield Track(frame.sample_rate, samples.shape[1], _subtype(frame, codec, stream), start, tags), samples


def _samples(frame: Any) -> np.ndarray:
    """Float32 `[n, c]`; integers are fixed-point samples of their width."""
    channels = len(frame.layout.channels)
    dtype = np.dtype(_DTYPES[frame.format.name.rstrip("p")])
    # With eight channels and more, PyAV counts planes beyond the last, and its own conversion reads what is not there.
    planes = frame.planes[: channels if frame.format.is_planar else 1]
    count = frame.samples * (1 if frame.format.is_planar else channels)
    values = np.stack([np.frombuffer(plane, dtype, count) for plane in planes], axis=1)
    values = values if frame.format.is_planar else values.reshape(-1, channels)
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128.0) / 128.0
    if np.issubdtype(values.dtype, np.integer):
        return (values / -float(np.iinfo(values.dtype).min)).astype(np.float32)
    return values.astype(np.float32)


def _subtype(frame: Any, codec: str, stream: Any) -> str:
    if not codec.startswith(_LOSSLESS):
        return codec.upper()
    subtype = _SUBTYPES.get(frame.format.name.rstrip("p"), "FLOAT")
    bits = getattr(stream.codec_context, "bits_per_coded_sample", 0) or 0
    return "PCM_24" if subtype == "PCM_32" and (bits in (0, 24) or codec in {"flac", "alac"}) else subtype
