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

    def window_length(self, sample_rate: int) -> int:
        """Samples of the window at `sample_rate` (Hz): even, at least 8, and a product of primes up to 11.

        The nearest such number: 64 ms at 44.1 kHz are 2822 = 2 x 17 x 83 samples, whose transform takes eight times as
        long as that of the 2816 that are taken. At 8, 16, 32, 48, 96 and 192 kHz it is 64 ms exactly.
        """
        nearest = max(8, 2 * round(self.window_seconds * sample_rate / 2))
        distance = 0
        while not _is_smooth(nearest - distance) and not _is_smooth(nearest + distance):
            distance += 2
        return nearest - distance if _is_smooth(nearest - distance) else nearest + distance


def _is_smooth(number: int) -> bool:
    for prime in (2, 3, 5, 7, 11):
        while number % prime == 0:
            number //= prime
    return number == 1
