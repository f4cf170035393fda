"""Waveform to spectrogram and back, and the log-frequency grid on which masks live."""

from typing import TYPE_CHECKING, Any

from marssep.spectral.settings import SpectralSettings

if TYPE_CHECKING:
    from marssep.spectral.spectrogram import Spectrogram

__all__ = ["SpectralSettings", "Spectrogram"]


def __getattr__(name: str) -> Any:
    if name != "Spectrogram":
        raise AttributeError(f"module 'marssep.spectral' has no attribute '{name}'")
    from marssep.spectral.spectrogram import Spectrogram  # needs torch, and the settings are wanted without it

    return Spectrogram
