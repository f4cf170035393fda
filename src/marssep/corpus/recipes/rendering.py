"""Playing phrases on sampled instruments: one MIDI file per bank and program, rendered by fluidsynth or timidity."""

import logging
import re
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from marssep.audio import Audio, read_audio, to_mono
from marssep.corpus.recipes.packages import need_program
from marssep.corpus.recipes.tunes import Note
from marssep.corpus.store import CORPUS_RATE
from marssep.errors import CorpusError

_TICKS_PER_SECOND = 960  # 480 ticks a beat at 120 beats a minute
_DRUM_CHANNEL = 9
_TIMIDITY_RATE = "44100"  # Hz; at 32 kHz timidity 2.14 plays the same file differently now and then
_GAP_SECONDS = 2.0  # long enough for what rings to die away before the next phrase

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bank:
    """A collection of sampled instruments.

    Attributes:
        name: short name, used in ids.
        package: the package it comes in; also its sound-font family for the splits.
        path: the sound font, or the folder of a patch set with its configuration file.
        split: where its phrases go.
    """

    name: str
    package: str
    path: str
    split: str


@dataclass(frozen=True, slots=True)
class Preset:
    """One sound of a bank, by what MIDI selects it with.

    Attributes:
        program: General MIDI program from 0; of drums, the kit.
        variation: bank number; 0 is General MIDI, `DRUMS` are the drum kits.
    """

    program: int
    variation: int = 0

    @property
    def name(self) -> str:
        """Short name, used in ids and sources."""
        return f"{self.variation:03d}-{self.program:03d}" if self.variation else f"{self.program:03d}"


DRUMS = 128
"""Bank number of drum kits in a sound font."""
STANDARD_KIT = Preset(0, DRUMS)
"""The drum kit that every bank has."""

BANKS = (
    Bank("fluid", "fluid-soundfont-gm", "usr/share/sounds/sf2/FluidR3_GM.sf2", "train"),
    Bank("musescore", "musescore-general-soundfont", "usr/share/sounds/sf3/MuseScore_General_Full.sf3", "train"),
    Bank("timgm", "timgm6mb-soundfont", "usr/share/sounds/sf2/TimGM6mb.sf2", "val"),
    Bank("csound", "csound-soundfont", "usr/share/sounds/sf2/sf_GMbank.sf2", "val"),
    Bank("freepats", "freepats", "usr/share/midi/freepats", "test"),
)
"""Banks that share samples share a split: MuseScore grew out of FluidR3, csound's bank out of TimGM's."""


_KITS = tuple(Preset(kit, DRUMS) for kit in (8, 16, 24, 25, 32, 40))  # room, power, electronic, TR-808, jazz, brush
_BOTH: dict[str, tuple[Preset, ...]] = {
    "accordion": (Preset(21, 8), Preset(23)),
    "acoustic_guitar": (Preset(25, 8),),
    "drum_kit": _KITS,
    "electric_guitar": (Preset(26), Preset(28), Preset(26, 8), Preset(28, 8)),
    "harpsichord": (Preset(6, 8),),
    "mandolin": (Preset(25, 16),),
    "organ": (Preset(16), Preset(18), Preset(20), Preset(16, 8), Preset(19, 8)),
    "piano": (Preset(2), Preset(3)),
    "saxophone": (Preset(64), Preset(67)),
    "bass_guitar": (Preset(35), Preset(36)),
    "double_bass": (Preset(32),),
    "flute": (Preset(72),),
    "violin": (Preset(40, 8), Preset(110)),
    "trumpet": (Preset(59),),
}
VARIATIONS: dict[str, dict[str, tuple[Preset, ...]]] = {
    "fluid": _BOTH,
    "musescore": _BOTH
    | {
        "violin": (*_BOTH["violin"], Preset(48, 20), Preset(49, 20), Preset(45, 20), Preset(49, 25)),
        "cello": (Preset(48, 40), Preset(49, 40), Preset(45, 40)),
        "double_bass": (*_BOTH["double_bass"], Preset(48, 50), Preset(49, 50), Preset(45, 50)),
    },
}
"""By bank and label, what else of a training bank is that instrument: other kits, kin in General MIDI, sections."""


def programs_of(bank: Bank, packages: Path) -> set[int] | None:
    """The melodic programs a bank has; None if it has all of General MIDI."""
    if bank.name != "freepats":
        return None
    text = (packages / bank.package / "etc/timidity/freepats.cfg").read_text(encoding="latin-1")
    melodic = text.split("bank 0", 1)[-1]
    return {int(number) for number in re.findall(r"^\s*(\d+)\s+Tone_\S+", melodic, flags=re.MULTILINE)}


def render_phrases(
    bank: Bank, packages: Path, phrases: Sequence[Sequence[Note]], *, preset: Preset, seconds: float
) -> list[Audio]:
    """Play phrases on one preset of a bank, dry (no reverb, no chorus).

    Loading a sound font costs seconds, so all phrases go into one MIDI file and the recording is cut apart again.

    Args:
        bank: where the samples are.
        packages: folder of unpacked packages.
        phrases: notes in seconds from the start of each phrase.
        preset: what plays.
        seconds: length of a phrase.

    Raises:
        CorpusError: if the program that plays is missing or fails.
    """
    stride = seconds + _GAP_SECONDS
    notes = [
        Note(number * stride + note.start, note.duration, note.pitch, note.velocity)
        for number, phrase in enumerate(phrases)
        for note in phrase
    ]
    with tempfile.TemporaryDirectory() as folder:
        midi, wave = Path(folder) / "in.mid", Path(folder) / "out.wav"
        midi.write_bytes(encode_midi(notes, preset))
        _play(bank, packages / bank.package, midi, wave)
        audio = read_audio(wave)
    mono = to_mono(audio.waveform)
    starts = [int(number * stride * audio.sample_rate) for number in range(len(phrases))]
    ends = [start + int(seconds * audio.sample_rate) for start in starts]
    return [
        Audio(mono[None, start:end], audio.sample_rate, audio.subtype) for start, end in zip(starts, ends, strict=True)
    ]


def encode_midi(notes: Sequence[Note], preset: Preset) -> bytes:
    """A Standard MIDI File (format 0) with the notes on one channel: the tenth for drums, else the first."""
    drums = preset.variation == DRUMS
    channel = _DRUM_CHANNEL if drums else 0
    events = [(note.start, 1, note.pitch, note.velocity) for note in notes]
    events += [(note.start + note.duration, 0, note.pitch, 0) for note in notes]
    track = b"\x00\xff\x51\x03" + (500_000).to_bytes(3, "big")
    if preset.variation and not drums:
        track += bytes([0, 0xB0 | channel, 0, preset.variation])  # bank select, before the program
    track += bytes([0, 0xC0 | channel, preset.program])
    clock = 0
    for start, is_on, pitch, velocity in sorted(events):
        ticks = round(start * _TICKS_PER_SECOND)
        track += _variable_length(ticks - clock)
        track += bytes([(0x90 if is_on else 0x80) | channel, pitch, velocity])
        clock = ticks
    track += b"\x00\xff\x2f\x00"
    return struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, 480, b"MTrk", len(track)) + track


def _play(bank: Bank, package: Path, midi: Path, wave: Path) -> None:
    if bank.name == "freepats":
        need_program("timidity", package="timidity")
        config = midi.with_name("freepats.cfg")
        text = (package / "etc/timidity/freepats.cfg").read_text(encoding="latin-1")
        config.write_text(re.sub(r"^dir .*$", f"dir {package / bank.path}", text, flags=re.MULTILINE), "latin-1")
        # EF options: no reverb, no chorus, no delay
        command = ["timidity", "-c", str(config), "-s", _TIMIDITY_RATE, "-EFreverb=0", "-EFchorus=0", "-EFdelay=0"]
        command += ["-Ow", "-OwM", "-o", str(wave), str(midi)]
    else:
        need_program("fluidsynth", package="fluidsynth")
        command = ["fluidsynth", "-ni", "-q", "-R", "0", "-C", "0", "-g", "0.6", "-o", "synth.dynamic-sample-loading=1"]
        command += ["-r", str(CORPUS_RATE), "-F", str(wave), str(package / bank.path), str(midi)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not wave.is_file():
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise CorpusError(f"{command[0]}: could not play bank '{bank.name}' ({reason[0]}); check the package's files.")


def _variable_length(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | (value & 0x7F))
    return bytes(reversed(groups))
