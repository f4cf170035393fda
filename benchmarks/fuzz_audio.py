"""Broken recordings by the hundred thousand: each is read or refused in our own words, in time, and leaves nothing.

    python benchmarks/fuzz_audio.py [--cases 240000] [--seed 0] [--processes 1] [--output results/fuzz.json]

Each case is a small file of some format with its header or body mutated: bits flipped, lengths set to extremes, parts
cut, doubled, zeroed or taken from another format. It is read to its end through the reader that the command line uses;
every 100th goes through a whole separation instead, after which the output folder must hold all results or none. Cases
run in processes of their own, so that a crash or a hang in a decoder is counted and the run goes on.
"""

import argparse
import collections
import contextlib
import io
import json
import multiprocessing
import os
import random
import resource
import shutil
import tempfile
import time
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile

from marssep.audio import AudioFile
from marssep.errors import InputError, MarssepError

LIMIT_SECONDS = 20.0  # of processor-starved time; a healthy case takes a millisecond
MOST_SAMPLES = 20_000_000  # what one broken file may decode to before we stop counting
MEMORY_BYTES = 3 << 30
SEPARATED = 100  # every so-many-th case is separated too
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
SNDFILE = [
    ("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("WAV", "PCM_24"), ("WAV", "PCM_32"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"),
    ("WAV", "ULAW"), ("WAV", "ALAW"), ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("WAV", "GSM610"), ("WAVEX", "PCM_24"),
    ("RF64", "PCM_16"), ("W64", "PCM_16"), ("W64", "FLOAT"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"),
    ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"), ("AIFF", "FLOAT"), ("AU", "PCM_16"),
    ("CAF", "PCM_16"), ("CAF", "ALAC_16"), ("NIST", "PCM_16"), ("VOC", "PCM_16"), ("IRCAM", "PCM_16"),
    ("SVX", "PCM_16"), ("PAF", "PCM_16"),
    ("PVF", "PCM_16"), ("MAT4", "PCM_16"), ("MAT5", "FLOAT"), ("HTK", "PCM_16"), ("AVR", "PCM_16"), ("XI", "DPCM_16"),
]  # fmt: skip
CONTAINERS = [
    ("m4a", "ipod", "aac"), ("mov", "mov", "pcm_s16le"), ("mp4-alac", "mp4", "alac"), ("mkv", "matroska", "libopus"),
    ("mkv-flac", "matroska", "flac"), ("webm", "webm", "libopus"), ("avi", "avi", "pcm_s16le"), ("ts", "mpegts", "aac"),
    ("adts", "adts", "aac"), ("flv", "flv", "aac"), ("asf", "asf", "pcm_s16le"),
]  # fmt: skip


def main() -> None:
    """Run all cases and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=240_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("results/fuzz.json"))
    settings = parser.parse_args()
    started = time.monotonic()
    report = run(settings.cases, seed=settings.seed, processes=settings.processes, say=print)
    report["seconds"] = round(time.monotonic() - started, 1)
    report["date"] = datetime.now(UTC).isoformat(timespec="seconds")
    settings.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({key: value for key, value in report.items() if key != "formats"}, indent=1))
    raise SystemExit(1 if report["failures"] else 0)


def run(cases: int, *, seed: int, processes: int = 1, say=lambda _: None) -> dict:
    """All cases, and what became of them."""
    bases = make_bases()
    counts = {name: collections.Counter() for name in bases}
    failures: list[dict] = []
    queues = [list(range(lane, cases, processes)) for lane in range(processes)]
    lanes = [_Lane(bases, seed, numbers) for numbers in queues]
    told = time.monotonic()
    while any(lane.alive for lane in lanes):
        for lane in lanes:
            lane.step(counts, failures)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            say(f"{sum(sum(each.values()) for each in counts.values())} cases, {len(failures)} failures")
    total = sum(counts.values(), collections.Counter())
    return {
        "what": "mutated recordings through the reader; every 100th through a whole separation",
        "cases": sum(total.values()),
        "seed": seed,
        "outcomes": dict(total),
        "failures": failures[:50],
        "n_failures": len(failures),
        "limit_seconds": LIMIT_SECONDS,
        "formats": {name: dict(each) for name, each in counts.items()},
        "versions": {
            "libsndfile": soundfile.__libsndfile_version__,
            "soundfile": soundfile.__version__,
            "av": _av_version(),
        },
    }


class _Lane:
    """One process after another that works through some of the cases."""

    def __init__(self, bases, seed, numbers):
        self._bases, self._seed, self._numbers = bases, seed, numbers
        self._names = list(bases)
        self._at = 0  # results taken so far
        self._start()

    @property
    def alive(self):
        return self._process is not None

    def step(self, counts, failures):
        """Wait a little for results; replace a process that died or hangs."""
        if self._process is None:
            return
        if self._pipe.poll(0.2):
            try:
                self._take(self._pipe.recv(), counts, failures)
            except (EOFError, OSError):
                if self._at >= len(self._numbers):
                    self._end()
                else:
                    self._give_up("crash", counts, failures)
        elif self._current[1] > 0 and time.monotonic() - self._current[1] > LIMIT_SECONDS:
            self._give_up("hang", counts, failures)

    def _take(self, results, counts, failures):
        for name, outcome, detail in results:
            counts[name][outcome] += 1
            if outcome not in ("read", "refused", "separated"):
                failures.append({"case": self._numbers[self._at], "format": name, "why": outcome, "detail": detail})
            self._at += 1

    def _give_up(self, why, counts, failures):
        """Count the case that killed the process, and go on after it."""
        number = int(self._current[0])
        self._end()
        if number < 0:
            raise SystemExit("A worker could not start.")
        # Results of the cases before it that were not sent yet are made again; they are deterministic.
        unsent = [each for each in self._numbers[self._at :] if each < number]
        self._take([one_case(self._bases, self._names, self._seed, each, None) for each in unsent], counts, failures)
        name = self._names[pick(self._seed, number, len(self._names))]
        self._take([(name, why, "")], counts, failures)
        if self._at < len(self._numbers):
            self._start()

    def _start(self):
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe(duplex=False)
        self._current = context.Array("d", [-1.0, 0.0], lock=False)
        self._process = context.Process(
            target=_work, args=(self._bases, self._seed, self._numbers[self._at :], self._current, theirs), daemon=True
        )
        self._process.start()
        theirs.close()

    def _end(self):
        self._process.kill()
        self._process.join()
        self._pipe.close()
        self._process = None


def _work(bases, seed, numbers, current, pipe):
    import logging

    logging.disable(logging.CRITICAL)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    names = list(bases)
    separator = _tiny_separator()
    soft = int(Path("/proc/self/statm").read_text().split()[0]) * 4096 if Path("/proc/self/statm").exists() else 0
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (soft + MEMORY_BYTES, soft + MEMORY_BYTES))
    results = []
    for number in numbers:
        current[0], current[1] = number, time.monotonic()
        results.append(one_case(bases, names, seed, number, separator))
        if len(results) == 200:
            pipe.send(results)
            results = []
    current[1] = 0.0
    if results:
        pipe.send(results)


def pick(seed, number, count):
    """Number of the format of a case."""
    return random.Random(f"{seed}/{number}").randrange(count)


def one_case(bases, names, seed, number, separator):
    """Format, outcome and detail of one case."""
    rng = random.Random(f"{seed}/{number}")
    name = names[rng.randrange(len(names))]
    data = mutate(bases[name], rng, bases[names[rng.randrange(len(names))]])
    try:
        if separator is not None and number % SEPARATED == 0:
            return name, *_separate(separator, data)
        with AudioFile(io.BytesIO(data), name="fuzz") as file:
            samples = 0
            for block in file.blocks(8192):
                samples += block.size
                if samples > MOST_SAMPLES:
                    break
    except InputError as error:
        text = str(error)
        return (
            (name, "refused", "") if "\n" not in text and text.startswith("fuzz: ") else (name, "bad words", text[:200])
        )
    except BaseException as error:
        return name, "wrong exception", f"{type(error).__name__}: {error}"[:200]
    return name, "read", ""


def _separate(separator, data):
    from marssep.query import Query

    folder = Path(tempfile.mkdtemp(prefix="marssep-fuzz-"))
    try:
        (folder / "in").write_bytes(data)

        def watch(progress):
            return progress.seconds * 1000 < MOST_SAMPLES / 100

        with contextlib.suppress(MarssepError):
            separator.separate_file(folder / "in", [Query(text="dog")], folder / "out", watch=watch)
        left = sorted(path.name.removeprefix("in.dog.") for path in (folder / "out").glob("*"))
        good = left in ([], ["json", "residual.wav", "target.wav"])
        return ("separated", "") if good else ("partial output", str(left))
    finally:
        shutil.rmtree(folder)


def mutate(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """One to six changes, half of them in the first bytes."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        if not made:
            break
        end = min(len(made), rng.choice([16, 64, 256])) if rng.random() < 0.5 else len(made)
        at = rng.randrange(end)
        kind = rng.randrange(8)
        span = min(len(made) - at, rng.choice([1, 4, 16, 64, 512]))
        if kind == 0:
            made[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            made[at] = rng.randrange(256)
        elif kind == 2:
            width = rng.choice([1, 2, 4, 8])
            value = rng.choice(EXTREMES) & ((1 << (8 * width)) - 1)
            made[at : at + width] = value.to_bytes(width, rng.choice(["little", "big"]))
        elif kind == 3:
            del made[at : at + span]
        elif kind == 4:
            made[at:at] = rng.choice([made[at : at + span], bytes(span), rng.randbytes(span)])
        elif kind == 5:
            made[at : at + span] = bytes(span)
        elif kind == 6:
            del made[max(at, 1) :]
        else:
            start = rng.randrange(len(other))
            made[at : at + span] = other[start : start + span]
    return bytes(made)


def make_bases() -> dict[str, bytes]:
    """A small good file of every format."""
    rng = np.random.default_rng(0)
    sound = 0.3 * np.sin(np.arange(1600) / 5)[:, None] + 0.02 * rng.standard_normal((1600, 2))
    made = {}
    for format_name, subtype in SNDFILE:
        buffer = io.BytesIO()
        channels = 1 if format_name in ("SVX", "HTK", "XI") or subtype == "GSM610" else 2
        rate = {"OPUS": 48000, "MPEG_LAYER_III": 16000}.get(subtype, 8000)
        soundfile.write(buffer, sound[:, :channels], rate, format=format_name, subtype=subtype)
        made[f"{format_name}/{subtype}"] = buffer.getvalue()
    with contextlib.suppress(ImportError):
        for name, format_name, codec in CONTAINERS:
            made[name] = _container(sound, format_name, codec)
    return made


def _container(sound, format_name, codec) -> bytes:
    import av

    buffer = io.BytesIO()
    rate = 48000 if codec == "libopus" else 16000
    with av.open(buffer, "w", format=format_name) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        whole = av.AudioFrame.from_ndarray(sound[:, :1].T.astype(np.float32).copy(), format="fltp", layout="mono")
        whole.sample_rate, whole.time_base, whole.pts = rate, Fraction(1, rate), 0
        fifo, at = av.AudioFifo(), 0
        for frame in av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate).resample(whole):
            frame.pts = None
            fifo.write(frame)
        while part := fifo.read(stream.codec_context.frame_size or 400, partial=True):
            part.pts, part.time_base = at, Fraction(1, rate)
            at += part.samples
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _tiny_separator():
    import torch

    from marssep import Separator
    from marssep.model import LoadedModel, ModelConfig, build_network
    from marssep.query import load_encoder

    torch.set_num_threads(1)
    config = ModelConfig(encoder="tiny", query_dimension=16, chunk_steps=32, network={"channels": (8, 8, 16)})
    network = build_network(config).eval().requires_grad_(False)
    return Separator(LoadedModel(network, config, {}, "seeded"), load_encoder("tiny"), name="tiny")


def _av_version():
    with contextlib.suppress(ImportError):
        import av

        return av.__version__
    return None


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
