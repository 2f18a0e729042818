"""Preparing recordings: clips per second by worker processes, and memory by number of clips.

Some recordings in the format of CREMA-D (2.5 s of 480 x 360 pixels as FLV, audio at 16 kHz as WAV) are
written with real encoders, and linked under many names in its folder layout.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from sets import folder
from turns import Found, Ratio, Size, in_turn

from equipoise.data.datasets.cremad import EMOTIONS

TITLE = "Preparing recordings"
FACTOR = 4
RECORDED, FPS, SECONDS, RATE = 6, 30, 2.5, 16000
SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")


def measure(size: Size) -> Found:
    found, small = Found(), size.of(300, 36)
    if importlib.util.find_spec("av") is None or importlib.util.find_spec("soundfile") is None:
        found.missing["preparing"] = "PyAV or soundfile is missing (pip install 'equipoise[media]')"
        return found
    recordings = [record(folder(), number) for number in range(RECORDED)]
    peaks: dict[tuple[int, int], list[int]] = {}
    works = {}
    for count in size.of((small, FACTOR * small), (small,)):
        source = source_of(folder(), recordings, count)
        for workers in (1, 2):
            peaks[count, workers] = []
            works[f"{count}, {workers}"] = preparing(source, workers, peaks[count, workers])
    turns = in_turn(works, size.of(2, 1), warm=False)
    for (count, workers), found_peaks in peaks.items():
        rate = count / median(turn.wall for turn in turns[f"{count}, {workers}"])
        row = {
            "clips": count,
            "workers": workers,
            "clips/s": rate,
            "peak memory, MiB": max(found_peaks) / 2**20,
        }
        found.table.append(row)
    what = f"{count} clips: 1 worker / 2 workers"
    found.ratios.append(Ratio(what, turns[f"{count}, 1"], turns[f"{count}, 2"], unit=" s"))
    found.notes.append(
        f"Clips in the format of CREMA-D: {SECONDS} s of 480 x 360 pixels (FLV) and audio (WAV), converted "
        "to 3 frames of 224 x 224 and a spectrogram; the whole command. Memory is the sum over all "
        "processes, without file-backed pages."
    )
    return found


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
    for place in range(count):
        # All emotions of an actor follow each other, so that few clips have actors enough for three splits.
        actor, emotion = 1001 + place // 6 % 91, EMOTIONS[place % 6]
        sentence = SENTENCES[place // (91 * 6)]
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


def preparing(source: Path, workers: int, peaks: list[int]) -> Callable[[], None]:
    """Return the work of the command, which notes its peak memory."""
    out = source.parent / "prepared"
    words = ["prepare", "cremad", "--source", str(source), "--out", str(out), "--workers", str(workers)]

    def work() -> None:
        peak = 0
        command = subprocess.Popen([sys.executable, "-m", "equipoise", *words], stdout=subprocess.DEVNULL)
        watched = psutil.Process(command.pid)
        while command.poll() is None:
            with suppress(psutil.NoSuchProcess):
                peak = max(peak, memory_of(watched))
            time.sleep(0.05)
        if command.returncode:
            sys.exit(f"The command failed with exit code {command.returncode}.")
        shutil.rmtree(out)
        peaks.append(peak)

    return work
