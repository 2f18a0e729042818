"""Real files, written by real encoders, against the encoded content."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from equipoise.data.prepare.media.audio import read_audio
from equipoise.data.prepare.media.files import MediaError
from equipoise.data.prepare.media.images import common_size, fitted, image_size, natural, read_image
from equipoise.data.prepare.media.video import frame_size, frame_times, frames_at, read_frames
from limits import limited
from media_files import (
    lfs_pointer,
    moving_square,
    tone,
    truncated,
    write_image,
    write_video,
    write_wav,
)

FRAMES = moving_square(30)
SQUARES = np.moveaxis(FRAMES[:, :, 8:56], -1, 1)
RATE = 22050


def _clip(folder: Path, ending: str, **options: object) -> Path:
    return write_video(
        folder / f"ein Stück {ending}", FRAMES, 10, wave=tone(440, RATE, 3.0), rate=RATE, **options
    )


def test_a_lossless_clip_gives_its_exact_frames(tmp_path: Path) -> None:
    found = frames_at(_clip(tmp_path, ".avi"), lambda span: range(span.count), 48)
    assert np.array_equal(found, SQUARES)


@pytest.mark.parametrize("ending", [".mp4", ".flv"])
def test_a_lossy_clip_gives_approximately_its_frames_in_order(tmp_path: Path, ending: str) -> None:
    found = frames_at(_clip(tmp_path, ending), lambda span: range(span.count), 48)
    assert found.shape == SQUARES.shape
    errors = np.abs(found[:, None].astype(int) - SQUARES[None].astype(int)).mean(axis=(2, 3, 4))
    assert errors.argmin(axis=1).tolist() == list(range(30))
    assert errors.diagonal().max() < 4


def test_even_frames_are_the_middles_of_equal_parts(tmp_path: Path) -> None:
    found = read_frames(_clip(tmp_path, ".avi"), 3, 48)
    assert np.array_equal(found, SQUARES[[5, 15, 25]])


def test_one_frame_a_second_with_the_last_one_repeated(tmp_path: Path) -> None:
    found = read_frames(_clip(tmp_path, ".avi"), 5, 48, pick="second")
    assert np.array_equal(found, SQUARES[[0, 10, 20, 29, 29]])


def test_a_part_of_a_clip(tmp_path: Path) -> None:
    clip = _clip(tmp_path, ".avi")
    assert np.array_equal(read_frames(clip, 2, 48, start=1.0, seconds=1.0), SQUARES[[12, 17]])
    with pytest.raises(MediaError, match="no images after second 9"):
        read_frames(clip, 2, 48, start=9.0)


def test_folders_of_pictures_are_read_in_numeric_order(tmp_path: Path) -> None:
    for number in range(12):
        write_image(tmp_path / "clip" / f"frame{number}.png", FRAMES[number])
    found = frames_at(tmp_path / "clip", lambda span: range(span.count), 48)
    assert np.array_equal(found, SQUARES[:12])
    assert sorted(["f10", "f9", "f1a", "f1"], key=natural) == ["f1", "f1a", "f9", "f10"]


def test_hidden_files_of_macos_are_no_pictures(tmp_path: Path) -> None:
    for number in range(3):
        write_image(tmp_path / "clip" / f"{number}.png", FRAMES[number])
        (tmp_path / "clip" / f"._{number}.png").write_bytes(b"\0\5\x16\7")
    assert np.array_equal(read_frames(tmp_path / "clip", 3, 48), SQUARES[:3])
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "._0.png").write_bytes(b"\0\5\x16\7")
    with pytest.raises(MediaError, match="is an empty folder"):
        read_frames(tmp_path / "hidden", 3, 48)


@pytest.mark.parametrize(
    ("found", "pixels", "size"),
    [
        ([(240, 320)] * 3, 224, (224, 299)),
        ([(60, 80), (120, 160)], 224, (120, 160)),
        ([(1920, 1080)], 224, (398, 224)),
        ([(480, 854), (720, 1280)], 224, (224, 399)),
        ([(48, 48)], 224, (48, 48)),
        ([(240, 320), (320, 240)], 224, 224),
        ([(30, 40), (40, 30)], 224, 30),
        ([], 224, 224),
    ],
)
def test_the_common_size_keeps_proportions_and_enlarges_nothing(found, pixels, size) -> None:
    assert common_size(found, pixels) == size


def test_the_size_of_a_video_a_folder_and_a_picture(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", moving_square(2, 48, 64), 10)
    write_image(tmp_path / "frames" / "1.png", moving_square(1, 30, 20)[0])
    assert frame_size(tmp_path / "a.avi") == (48, 64)
    assert frame_size(tmp_path / "frames") == (30, 20)
    assert image_size(tmp_path / "frames" / "1.png") == (30, 20)
    with pytest.raises(MediaError, match="is missing"):
        frame_size(tmp_path / "b.avi")


def test_a_picture_is_cropped_to_its_centre_and_downscaled_by_averaging() -> None:
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = np.arange(0, 160, 10, dtype=np.uint8).reshape(4, 4)[..., None]
    assert np.array_equal(fitted(pixels, 4)[0], pixels[:, 2:6, 0])
    small = fitted(np.kron(pixels[:, 2:6], np.ones((8, 8, 1), np.uint8)), 4)
    assert np.abs(small[0, 1:3, 1:3].astype(int) - pixels[1:3, 3:5, 0]).max() <= 1


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [
        ((4, 10), slice(0, 4), slice(0, 10)),
        ((2, 10), slice(1, 3), slice(0, 10)),
        ((4, 3), slice(0, 4), slice(3, 6)),
    ],
)
def test_height_and_width_keep_the_centre_of_these_proportions(
    size: tuple[int, int], rows: slice, columns: slice
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 10, 3), dtype=np.uint8)
    kept = np.moveaxis(pixels[rows, columns], -1, 0)
    assert np.array_equal(fitted(pixels, size), kept)
    large = np.kron(pixels, np.ones((6, 6, 1), np.uint8))
    shrunk = fitted(large, size).astype(int)
    assert shrunk.shape == kept.shape
    # Height and width are treated alike; the two passes of the resizing round differently.
    turned = fitted(large.swapaxes(0, 1), size[::-1]).astype(int).swapaxes(1, 2)
    assert np.abs(turned - shrunk).max() <= 1


def test_pictures_of_every_mode(tmp_path: Path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(read_image(write_image(tmp_path / "g.png", grey), 8), np.stack([grey] * 3))
    clear = np.full((8, 8, 4), 200, np.uint8)
    clear[..., 3] = 0
    assert read_image(write_image(tmp_path / "a.png", clear), 8).max() == 0
    # The ending is wrong, as often in collections from the web; the content is used.
    misnamed = write_image(tmp_path / "b.jpg", FRAMES[0], format="PNG")
    assert np.array_equal(read_image(misnamed, 48), SQUARES[0])


def test_a_sound_whose_header_counts_itself_is_whole(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", tone(440, 8000, 1.0), 8000)
    expected, content = read_audio(path, 8000), bytearray(path.read_bytes())
    content[4:8] = len(content).to_bytes(4, "little")
    path.write_bytes(content)
    assert np.array_equal(read_audio(path, 8000), expected)


def test_sixteen_bits_become_eight_and_more_are_refused(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    found = read_image(tmp_path / "deep.png", 64, grey=True)[0]
    assert np.abs(found.astype(int) - ramp / 257).max() <= 0.5
    assert np.array_equal(read_image(tmp_path / "deep.png", 64), np.stack([found] * 3))
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "share.tiff")
    with pytest.raises(MediaError, match="has pixels of 32 bits; expected 8 or 16"):
        read_image(tmp_path / "share.tiff", 8)


@pytest.mark.parametrize("shift", [10, 60])
def test_a_clip_that_was_cut_without_decoding(tmp_path: Path, shift: int) -> None:
    """It keeps the frames since the last whole one, which players leave out by its list of edits."""
    path = tmp_path / "cut.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.options = "yuv420p", {"g": "250", "bf": "0"}
        packets = []
        for number in range(200):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8), format="rgb24")
            frame.pts = number
            packets += stream.encode(frame)
        for packet in [*packets, *stream.encode(None)]:
            before = round(shift / 30 / float(packet.time_base))
            packet.pts, packet.dts = packet.pts - before, packet.dts - before
            container.mux(packet)
    found = frames_at(path, lambda span: range(span.count), 64).mean(axis=(1, 2, 3))
    assert len(found) == 200 - shift
    assert np.abs(found - np.arange(shift, 200)).max() < 3


def test_sound_equals_what_was_written(tmp_path: Path) -> None:
    wave = (tone(300, 8000, 0.5) * 32767).astype(np.int16)
    found = read_audio(write_wav(tmp_path / "a b.wav", wave, 8000), 8000)
    assert np.array_equal(found, wave / np.float32(32768))
    stereo = np.stack([wave, np.zeros_like(wave)], axis=1)
    halved = read_audio(write_wav(tmp_path / "s.wav", stereo, 8000), 8000)
    assert np.allclose(halved, wave / 65536)


@pytest.mark.parametrize("ending", [".wav", ".flac", ".mp4", ".flv", ".avi"])
def test_resampling_keeps_pitch_and_loudness(tmp_path: Path, ending: str) -> None:
    wave = tone(440, 44100, 2.0)
    path = tmp_path / f"x{ending}"
    if ending in (".wav", ".flac"):
        write_wav(path, wave, 44100)
    else:
        write_video(path, FRAMES[:20], 10, wave=wave, rate=44100)
    found = read_audio(path, 16000)[4000:24000]
    spectrum = np.abs(np.fft.rfft(found * np.hanning(len(found))))
    assert abs(spectrum.argmax() * 16000 / len(found) - 440) < 1
    assert abs(found.std() - 0.5 / np.sqrt(2)) < 0.02


def test_a_part_of_a_sound(tmp_path: Path) -> None:
    wave = np.arange(8000, dtype=np.int16)
    for ending, read in ((".wav", write_wav), (".avi", None)):
        path = tmp_path / f"p{ending}"
        if read:
            read(path, wave, 8000)
        else:
            write_video(path, FRAMES[:10], 10, wave=wave, rate=8000)
        part = read_audio(path, 8000, start=0.25, seconds=0.5)
        assert np.array_equal(part, wave[2000:6000] / np.float32(32768))


def _wrong_files(folder: Path) -> dict[str, tuple[Path, str, str]]:
    sound, clip = write_wav(folder / "s.wav", tone(99, 8000), 8000), _clip(folder, ".avi")
    (folder / "zero.mp4").write_bytes(b"")
    (folder / "text.wav").write_text("this is no sound")
    (folder / "text.mp4").write_text("this is no video, but it is long enough to be looked at")
    (folder / "sound.mp4").write_bytes(sound.read_bytes())
    (folder / "video.wav").write_bytes(clip.read_bytes())
    return {
        "missing": (folder / "nowhere.mp4", "missing", "is missing"),
        "empty": (folder / "zero.mp4", "empty", "zero length"),
        "pointer": (lfs_pointer(folder / "p.mp4"), "lfs-pointer", "git lfs pull"),
        "text as sound": (folder / "text.wav", "wrong-format", "WAV"),
        "text as video": (folder / "text.mp4", "wrong-format", "MP4"),
        "sound as video": (folder / "sound.mp4", "wrong-format", "WAV"),
        "video as sound": (folder / "video.wav", "wrong-format", "*.avi"),
        "half a sound": (truncated(write_wav(folder / "h.wav", tone(9, 8000), 8000)), "truncated", "bytes"),
        "half an mp4": (truncated(_clip(folder, ".mp4")), "truncated", "is truncated"),
        "half an flv": (truncated(_clip(folder, ".flv")), "truncated", "seconds"),
    }


@pytest.mark.parametrize(
    "case",
    [
        "missing",
        "empty",
        "pointer",
        "text as sound",
        "text as video",
        "sound as video",
        "video as sound",
        "half a sound",
        "half an mp4",
        "half an flv",
    ],
)
def test_an_unusable_file_gives_a_one_line_error(tmp_path: Path, case: str) -> None:
    path, reason, words = _wrong_files(tmp_path)[case]
    sounds = {"text as sound", "video as sound", "half a sound"}
    with pytest.raises(MediaError) as caught:
        read_audio(path, 8000) if case in sounds else read_frames(path, 3, 48)
    assert caught.value.reason == reason
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_files_are_detected_by_picture_and_sound_readers(tmp_path: Path) -> None:
    for ending in (".avi", ".mp4", ".flv"):
        path = truncated(_clip(tmp_path, ending), 0.4)
        for read in (lambda p=path: read_audio(p, RATE), lambda p=path: read_frames(p, 3, 48)):
            with pytest.raises(MediaError) as caught:
                read()
            assert caught.value.reason in ("truncated", "unreadable")


def test_sound_without_pictures_and_pictures_without_sound(tmp_path: Path) -> None:
    mute = write_video(tmp_path / "mute.flv", FRAMES, 10)
    blind = write_video(tmp_path / "blind.mp4", None, wave=tone(440, RATE), rate=RATE)
    assert len(frame_times(mute)) == 30
    assert len(read_audio(blind, RATE)) >= RATE
    with pytest.raises(MediaError, match="no sound") as caught:
        read_audio(mute, RATE)
    assert caught.value.reason == "no-audio"
    with pytest.raises(MediaError, match="no images") as caught:
        read_frames(blind, 3, 48)
    assert caught.value.reason == "no-video"


@pytest.mark.parametrize("name", ["broken.png", "broken.jpg"])
def test_a_truncated_picture(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    with pytest.raises(MediaError) as caught:
        read_image(truncated(write_image(tmp_path / name, noise)), 48)
    assert caught.value.reason in ("truncated", "unreadable")
    (tmp_path / "no.png").write_text("no picture at all")
    with pytest.raises(MediaError, match="not an image"):
        read_image(tmp_path / "no.png", 48)


@pytest.mark.parametrize(
    ("ending", "mode", "options"),
    [
        (".jpg", "L", {"progressive": True, "optimize": True, "quality": 1}),
        (".png", "L", {}),
        (".png", "1", {}),
        (".gif", "P", {}),
        (".webp", "RGB", {"quality": 0}),
        (".webp", "RGB", {"lossless": True}),
        (".tiff", "1", {"compression": "group4"}),
        (".tiff", "L", {"compression": "tiff_adobe_deflate"}),
    ],
)
def test_a_blank_picture_is_never_too_small_a_file(
    ending: str, mode: str, options: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / f"a{ending}"
    Image.new(mode, (3840, 2160)).save(path, **options)
    assert path.stat().st_size < 40_000
    assert read_image(path, 8).shape == (3, 8, 8)


def test_a_picture_on_a_canvas_that_is_far_larger_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    Image.new("P", (8, 8)).save(path)
    held = bytearray(path.read_bytes())
    held[6:10] = struct.pack("<HH", 9000, 9000)
    path.write_bytes(held)
    with limited("a GIF") as taken, pytest.raises(MediaError, match="9000 x 9000 pixels, too many"):
        read_image(path, 8)
    assert taken.bytes < 2**24
