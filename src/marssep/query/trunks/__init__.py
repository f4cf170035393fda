"""Frozen networks that turn text, sound and pictures into features; the heads on top of them are ours."""

from marssep.query.trunks.audio import AudioTrunk
from marssep.query.trunks.image import ImageTrunk
from marssep.query.trunks.text import TextTrunk

__all__ = ["AudioTrunk", "ImageTrunk", "TextTrunk"]
