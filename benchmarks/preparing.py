"""How preparing recordings scales: clips per second by worker processes, and memory by number of clips.

Usage: python benchmarks/preparing.py [OUT.md]

Writes some recordings in the format of CREMA-D (2.5 s of 480 x 360 pixels as FLV, audio at 16 kHz as WAV)
with real encoders, and links them under many names in its folder layout. The command runs alternately with
one and two workers. Requires pip install 'equipoise[media]'.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from fractions import Fraction
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from results import commit

from equipoise.data.datasets.cremad import EMOTIONS

SMALL, FACTOR, ROUNDS = 600, 4, 3
RECORDED, FPS, SECONDS, RATE = 6, 30, 2.5, 16000
SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")


def record(folder: Path, number: int) -> tuple[Path, Path]:
    """Write one recording: a moving image and a tone, both with some noise."""
    import av
    import soundfile

    rng = np.random.default_rng(number)
    clip, sound = folder / f"{number}.flv", folder / f"{number}.wav"
    with av.open(str(clip), "w") as out:
        stream = out.add_stream("flv", rate=FPS)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 480, 360, "yuv420p", 1_000_000
        scene = rng.integers(0, 256, (36, 48, 3)).astype(np.uint8).repeat(10, 0).repeat(10, 1)
        for moment in range(round(FPS * SECONDS)):
            noise = rng.integers(0, 8, scene.shape, dtype=np.uint8)
            pixels = np.roll(scene, 2 * moment, axis=1) // 2 + noise
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = moment, Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    times = np.arange(round(RATE * SECONDS)) / RATE
    wave = 0.3 * np.sin(2 * np.pi * 220 * (1 + number) * times) + rng.normal(0, 0.05, len(times))
    soundfile.write(sound, wave, RATE)
    return clip, sound


def source_of(folder: Path, recordings: list[tuple[Path, Path]], count: int) -> Path:
    """Create a folder in the layout of CREMA-D with `count` clips, as hard links to the recordings."""
    source = folder / f"source-{count}"
    for name in ("VideoFlash", "AudioWAV"):
        (source / name).mkdir(parents=True)
    names = product(range(1001, 1092), SENTENCES, EMOTIONS)
    for place, (actor, sentence, emotion) in zip(range(count), names, strict=False):
        clip, sound = recordings[place % len(recordings)]
        name = f"{actor}_{sentence}_{emotion}_XX"
        os.link(clip, source / "VideoFlash" / f"{name}.flv")
        os.link(sound, source / "AudioWAV" / f"{name}.wav")
    return source


def memory_of(command: psutil.Process) -> int:
    """Return the memory of a process and its children in bytes.

    File-backed pages are not counted: the system reclaims them when it needs memory.
    """
    total = 0
    for process in (command, *command.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            memory = process.memory_info()
            total += memory.rss - memory.shared
    return total


def prepared(source: Path, count: int, workers: int) -> dict[str, float]:
    """Run the command; return clips per second and peak memory in MiB."""
    out, peak = source.parent / "out", 0
    words = ["prepare", "cremad", "--source", str(source), "--out", str(out), "--workers", str(workers)]
    begin = time.perf_counter()
    command = subprocess.Popen([sys.executable, "-m", "equipoise", *words], stdout=subprocess.DEVNULL)
    watched = psutil.Process(command.pid)
    while command.poll() is None:
        with suppress(psutil.NoSuchProcess):
            peak = max(peak, memory_of(watched))
        time.sleep(0.05)
    seconds = time.perf_counter() - begin
    if command.returncode:
        sys.exit(f"The command failed with exit code {command.returncode}.")
    shutil.rmtree(out)
    return {"rate": count / seconds, "peak": peak / 2**20}


def main(out: str | None) -> None:
    rounds: dict[tuple[int, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recordings = [record(folder, number) for number in range(RECORDED)]
        sources = {count: source_of(folder, recordings, count) for count in (SMALL, FACTOR * SMALL)}
        for _ in range(ROUNDS):
            for (count, source), workers in product(sources.items(), (1, 2)):
                rounds.setdefault((count, workers), []).append(prepared(source, count, workers))
    lines = ["| clips | workers | clips/s, median | lowest | highest | peak memory, MiB |"]
    lines.append("|---:|---:|---:|---:|---:|---:|")
    for (count, workers), found in rounds.items():
        rates, peaks = [one["rate"] for one in found], [one["peak"] for one in found]
        cells = f"{median(rates):.1f} | {min(rates):.1f} | {max(rates):.1f} | {max(peaks):.0f}"
        lines.append(f"| {count} | {workers} | {cells} |")
    large = FACTOR * SMALL
    pairs = zip(rounds[large, 2], rounds[large, 1], strict=True)
    gains = [two["rate"] / one["rate"] for two, one in pairs]
    growth = {
        workers: max(one["peak"] for one in rounds[large, workers])
        / max(one["peak"] for one in rounds[SMALL, workers])
        for workers in (1, 2)
    }
    lines += [
        "",
        f"Two workers prepare {large} clips {median(gains):.2f} times as fast as one ({ROUNDS} rounds, "
        f"{min(gains):.2f} to {max(gains):.2f}), including start-up. With {FACTOR} times as many clips, peak "
        f"memory grows by a factor of {growth[1]:.2f} with one worker and {growth[2]:.2f} with two.",
    ]
    print("\n".join(lines))
    if out:
        Path(out).write_text(page(lines), encoding="utf-8")


def page(lines: list[str]) -> str:
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end"
    versions = f"Python {platform.python_version()}, numpy {np.__version__}"
    about = f"{machine}; {versions}. Commit `{commit()}`. Written by `benchmarks/preparing.py`."
    what = (
        f"Clips in the format of CREMA-D: {SECONDS} s of 480 x 360 pixels (FLV) and audio (WAV), converted "
        "to 3 frames of 224 x 224 and a spectrogram. Memory is the sum over all processes, without "
        "file-backed pages."
    )
    return "\n".join(["# Preparing recordings", "", about, "", what, "", *lines, ""])


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    main(sys.argv[1] if len(sys.argv) == 2 else None)
