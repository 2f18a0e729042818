"""Pictures, sound and video: sizes that are only claimed, and files that name others."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from equipoise.data.prepare.media.audio import read_audio
from equipoise.data.prepare.media.images import read_image
from equipoise.data.prepare.media.video import frame_size, read_frames
from hostile.case import Hostile, Place, content
from media_files import moving_square, tone, write_video, write_wav


def picture(path: Path) -> None:
    read_image(path, 8)


def sound(path: Path) -> None:
    read_audio(path, 4000)


def video(path: Path) -> None:
    frame_size(path)
    read_frames(path, 2, 8)


def chunk(kind: bytes, raw: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(raw)) + kind + raw + struct.pack(">I", zlib.crc32(kind + raw))


def png(side: int, *chunks: bytes) -> bytes:
    """Return a PNG of a side that it claims."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


def patched(name: str, place: int, raw: bytes) -> Callable[[Place], Path]:
    """Return what writes a small picture with other bytes at a place."""

    def write(folder: Place) -> Path:
        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(stream, {"bmp": "BMP", "gif": "GIF"}[name[-3:]])
        held = bytearray(stream.getvalue())
        held[place : place + len(raw)] = raw
        path = folder.given / name
        path.write_bytes(held)
        return path

    return write


def jpeg(side: int) -> bytes:
    """Return a small JPEG whose header claims a side."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(stream, "JPEG")
    held = bytearray(stream.getvalue())
    place = held.index(b"\xff\xc0") + 5
    held[place : place + 4] = struct.pack(">HH", side, side)
    return bytes(held)


def webp(side: int) -> bytes:
    """Return a WebP of 8 x 8 pixels, on a canvas whose side it claims."""
    from PIL import Image

    stream = io.BytesIO()
    pictures = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    pictures[0].save(stream, "WEBP", save_all=True, append_images=pictures[1:])
    held = bytearray(stream.getvalue())
    place = held.index(b"VP8X") + 12
    held[place : place + 6] = 2 * (side - 1).to_bytes(3, "little")
    return bytes(held)


def postscript(place: Place) -> bytes:
    """A program in PostScript, which other software hands to Ghostscript."""
    program = f"({place.mark}) (w) file closefile\n(%pipe%{place.program}) (r) file closefile\nshowpage\n"
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n" + program.encode()


def riff(claimed: int, data: int, rate: int = 8000) -> bytes:
    """Return a WAV of 8 bytes of sound that claims more."""
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    head = b"RIFF" + struct.pack("<I", claimed) + b"WAVEfmt " + struct.pack("<I", 16) + form
    return head + b"data" + struct.pack("<I", data) + bytes(8)


def rf64() -> bytes:
    """Return a WAV of more than 4 GB, by its header."""
    sizes = struct.pack("<QQQI", 2**50, 2**50, 2**49, 0)
    form = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)
    head = b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<I", len(sizes)) + sizes
    return head + b"fmt " + struct.pack("<I", 16) + form + b"data\xff\xff\xff\xff" + bytes(8)


def flac(place: Place) -> Path:
    """A FLAC that claims 2^36 samples."""
    path = write_wav(place.given / "a.flac", tone(440, 8000, 0.1), 8000)
    held = bytearray(path.read_bytes())
    held[21] |= 0x0F
    held[22:26] = b"\xff\xff\xff\xff"
    path.write_bytes(held)
    return path


def playlist(line: str, more: str = "") -> Callable[[Place], bytes]:
    """Return what gives a playlist of one line, in which words stand for places."""

    def make(place: Place) -> bytes:
        secret = write_video(place.outside / "secret.mp4", moving_square(10, 32, 32))
        words = {"SECRET": str(secret), "PORT": str(place.port)}
        text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n{more}#EXTINF:1,\n{line}\n#EXT-X-ENDLIST\n"
        return _with(text, words).encode()

    return make


def naming(text: str) -> Callable[[Place], bytes]:
    """Return what gives a text, in which words stand for places."""

    def make(place: Place) -> bytes:
        secret = write_video(place.outside / "secret.mp4", moving_square(10, 32, 32))
        return _with(text, {"SECRET": str(secret), "PORT": str(place.port)}).encode()

    return make


def _with(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text


SESSION = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video PORT RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n"
)
KEY = '#EXT-X-KEY:METHOD=AES-128,URI="http://127.0.0.1:PORT/key"\n'
NO_MEDIA = "is not a media file"
_PICTURES: dict[str, tuple[Callable[[Place], Path], str]] = {
    "a PNG of 100,000 x 100,000 pixels": (content("a.png", png(100_000)), "cannot be decoded"),
    "a PNG of 13,000 x 13,000 pixels without pixels": (
        content("a.png", png(13_000, chunk(b"IDAT", zlib.compress(b"\0")))),
        "too many for a file of",
    ),
    "a PNG with a comment of 100 MB in 100 kB": (
        content("a.png", lambda _: png(8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8), 9)))),
        "cannot be decoded",
    ),
    "a JPEG of 65,500 x 65,500 pixels": (content("a.jpg", lambda _: jpeg(65_500)), "cannot be decoded"),
    "a JPEG of 9,000 x 9,000 pixels": (content("a.jpg", lambda _: jpeg(9_000)), "too many for a file of"),
    "an animated WebP of 9,000 x 9,000 pixels": (
        content("a.webp", lambda _: webp(9_000)),
        "too many for a file of",
    ),
    "a GIF of 9,000 x 9,000 pixels": (
        patched("a.gif", 6, struct.pack("<HH", 9_000, 9_000)),
        "too many for a file of",
    ),
    "a BMP of 2^31 x 2^31 pixels": (patched("a.bmp", 18, b"\xff\xff\xff\x7f" * 2), "cannot be decoded"),
    "a GIF of 65,535 x 65,535 pixels": (patched("a.gif", 6, b"\xff" * 4), "cannot be decoded"),
    "PostScript named as a PNG": (content("a.png", postscript), "is not an image"),
}
_SOUNDS: dict[str, tuple[Callable[[Place], Path], str]] = {
    "a WAV that claims 4 GB": (content("a.wav", riff(2**32 - 512, 2**32 - 600)), "has \\d+ of 4294966792"),
    "a WAV of unknown length that claims 2 GB of samples": (
        content("a.wav", riff(0xFFFFFFFF, 2**31)),
        "",
    ),
    "a WAV of 2^32 samples a second": (
        content("a.wav", riff(44, 8, 2**32 // 2 - 1)),
        "samples per second|decoded",
    ),
    "a WAV of 64 bits that claims 2^50 bytes": (content("a.wav", rf64()), ""),
    "a FLAC that claims 2^36 samples": (flac, "ends after|decoded"),
}
_VIDEOS: dict[str, tuple[Callable[[Place], Path], str]] = {
    "a playlist that names a file": (content("a.m3u8", playlist("file://SECRET")), NO_MEDIA),
    "a playlist that names ../": (content("a.m3u8", playlist("../outside/secret.mp4")), NO_MEDIA),
    "a playlist that names an address": (content("a.m3u8", playlist("http://127.0.0.1:PORT/x.ts")), NO_MEDIA),
    "a playlist whose key is at an address": (content("a.m3u8", playlist("SECRET", KEY)), NO_MEDIA),
    "a playlist named as a video": (content("a.mp4", playlist("file://SECRET")), "unknown format, not MP4"),
    "a list of files to be joined": (
        content("a.ffconcat", naming("ffconcat version 1.0\nfile 'SECRET'\n")),
        NO_MEDIA,
    ),
    "a session that opens ports": (content("a.sdp", naming(SESSION)), NO_MEDIA),
}
CASES = [
    *(Hostile("picture", tries, write, picture, says, ["PIL"]) for tries, (write, says) in _PICTURES.items()),
    *(Hostile("sound", tries, write, sound, says, ["soundfile"]) for tries, (write, says) in _SOUNDS.items()),
    *(Hostile("video", tries, write, video, says, ["av"]) for tries, (write, says) in _VIDEOS.items()),
]
