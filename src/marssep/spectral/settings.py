"""Settings of the way from waveform to grid and back, apart from torch, which a runtime without it must not import."""

from marssep.settings import Settings


class SpectralSettings(Settings):
    """How waveforms become spectrograms and spectrograms become the network's grid."""

    window_seconds: float = 0.064
    """Length of the Hann window in seconds; 64 ms resolves the partials of low instruments."""
    hop_seconds: float = 0.016
    """Seconds between frames; a quarter of the window, so that masking leaves no audible frame rate."""
    frames_per_step: int = 2
    """The network sees every so-many-th frame: it runs on a coarser clock than the resynthesis."""
    n_bands: int = 128
    """Rows of the log-frequency grid."""
    max_frequency: float = 16000.0
    """Centre of the top row in hertz; bins above it share the top row's mask."""
    corner_frequency: float = 700.0
    """Where the rows turn from linear to logarithmic spacing, in hertz (700 is that of the mel scale)."""

    @property
    def step_seconds(self) -> float:
        """Seconds between two columns of the grid."""
        return self.hop_seconds * self.frames_per_step
