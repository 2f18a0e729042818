"""Reader of texts as tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from equipoise.data.format.modality import Layout
from equipoise.data.prepare.clips import Clip, ModalityReader
from equipoise.data.prepare.media.files import MediaError, check_media
from equipoise.data.prepare.media.text import (
    Tokens,
    hashed_tokens,
    pretrained_tokens,
    tokenizer_fingerprint,
    words,
)
from equipoise.files.limits import check_machine
from equipoise.types import UsageError

UTF8: Final = "utf-8-sig"
"""UTF-8, with or without a byte-order mark."""


@dataclass(frozen=True)
class TokensReader(ModalityReader):
    """Reads a text file as tokens.

    Attributes:
        role: file of the clip.
        length: number of tokens stored; longer texts are cut, shorter ones padded with 0.
        vocabulary: number of different tokens of `hashed_tokens`; not used with a tokenizer.
        tokenizer: local folder of a pretrained tokenizer; None hashes words.
        encoding: of the file.

    Raises:
        UsageError: the length is below 1 or the vocabulary below 2.
    """

    role: str = "text"
    length: int = 64
    vocabulary: int = 8192
    tokenizer: str | None = None
    encoding: str = UTF8

    def __post_init__(self) -> None:
        self.check_positive("length")
        if self.vocabulary < 2:
            raise UsageError(f"vocabulary is {self.vocabulary}; expected at least 2 tokens, including 0.")

    @property
    def layout(self) -> Layout:
        """Tokens `[length]`, never normalised."""
        return Layout((self.length,), "int32", "tokens", normalize="none")

    def text(self, clip: Clip) -> str:
        """Return the text of a clip."""
        path = clip.files[self.role]
        check_media(path)
        try:
            return path.read_bytes().decode(self.encoding)
        except UnicodeDecodeError as error:
            found = f"is not text in the encoding {self.encoding.removesuffix('-sig')!r} (byte {error.start})"
            remedy = "save it as UTF-8, or in 'prepare table' name its encoding, as --encoding latin-1"
            raise MediaError(path, "unreadable", found, remedy) from error
        except OSError as error:
            check_machine(error)
            found = f"cannot be read ({error.strerror})"
            raise MediaError(path, "unreadable", found, "check its permissions") from error

    def read(self, clip: Clip) -> Tokens:
        """Return the tokens of a clip; a text without words is a `MediaError`."""
        text = self.text(clip)
        if not words(text):
            found = f"has no word for {clip.id!r}"
            raise MediaError(clip.files[self.role], "empty", found, "write a text, or remove it")
        if self.tokenizer is None:
            return hashed_tokens(text, self.length, self.vocabulary)
        return pretrained_tokens(text, self.length, self.tokenizer)

    def describe(self) -> dict[str, Any]:
        """Return the name of the reader and its fields, with the hash of a tokenizer, not its folder."""
        described = super().describe()
        if self.tokenizer is not None:
            described |= {"tokenizer": tokenizer_fingerprint(self.tokenizer), "vocabulary": None}
        return described
