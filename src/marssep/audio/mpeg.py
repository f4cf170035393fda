"""MPEG audio whose first frame libsndfile does not find: behind a tag that understates its own length."""

import io

from marssep.audio.views import Spliced

_LOOKED_AT = 1 << 16  # bytes behind the tag
_LAYERS = {1: 3, 2: 2, 3: 1}
_KBIT = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def mend(file: io.BufferedIOBase) -> io.RawIOBase | None:
    """The same file from its first frame on, or None if it has no tag or a frame begins right behind it.

    Args:
        file: open for reading; its position is not kept.
    """
    file.seek(0)
    head = file.read(10)
    if len(head) < 10 or head[:3] != b"ID3":
        return None
    behind = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(behind)
    data = file.read(_LOOKED_AT)
    if frame_length(data) is not None:
        return None
    place = -1
    while (place := data.find(b"\xff", place + 1)) >= 0:
        length = frame_length(data[place : place + 4])
        # Two in a row: one alone may be chance.
        if length is not None and frame_length(data[place + length : place + length + 4]) is not None:
            return Spliced(b"", file, behind + place)
    return None


def frame_length(header: bytes) -> int | None:
    """Bytes of the frame whose header these four bytes are, None if they are none or do not say."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, _LAYERS.get(header[1] >> 1 & 3)
    index, rate_index, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer is None or index in (0, 15) or rate_index == 3:
        return None
    rate = _RATES[version][rate_index]
    bits = 1000 * _KBIT[1 if version == 3 else 2, layer if version == 3 else min(layer, 2)][index]
    if layer == 1:
        return (12 * bits // rate + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // rate + padding
