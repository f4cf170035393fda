"""Waveform to spectrogram and back, and the log-frequency grid on which masks live."""

from marssep.spectral.spectrogram import SpectralSettings, Spectrogram

__all__ = ["SpectralSettings", "Spectrogram"]
