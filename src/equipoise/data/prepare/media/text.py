"""Texts to tokens: words hashed into buckets, or the tokenizer of a pretrained model."""

from __future__ import annotations

import unicodedata
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.content import digest
from equipoise.data.prepare.clips import Clip, Layout, ModalityReader
from equipoise.data.prepare.media.errors import MediaError
from equipoise.data.prepare.media.files import check_media
from equipoise.types import MissingExtraError, UsageError

Tokens = NDArray[np.int32]
_APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}"
_TOKENIZER_FILES = ("*.json", "*.txt", "*.model", "*.tiktoken")


class _WordCharacters(dict[int, int | None]):
    """Table for `str.translate`: what belongs to a word stays, what is invisible goes, all else is a space.

    Marks belong to words: a regular expression's idea of one would tear Devanagari apart at its vowel signs.
    """

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        category = unicodedata.category(character)
        if category == "Cf":  # soft hyphens, joiners, byte order marks
            self[code] = None
        elif character in _APOSTROPHES:
            self[code] = ord("'")
        else:
            self[code] = code if category[0] in "LNM" else ord(" ")
        return self[code]


_WORD_CHARACTERS = _WordCharacters()


def words(text: str) -> list[str]:
    """Return the words of a text in lower case: runs of letters, digits and marks, with apostrophes inside.

    Equivalent forms of a character (composed or not, full width or not) count as one.
    """
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_WORD_CHARACTERS)
    stripped = (word.strip("'") for word in plain.split())
    return [word for word in stripped if word]


def hashed_tokens(text: str, length: int, vocabulary: int = 8192) -> Tokens:
    """Number the words of a text by hashing, so that no vocabulary is learnt and none can leak.

    A word's number is 1 + h mod (vocabulary - 1), h being the first 8 bytes of its BLAKE2b hash; words may
    share a number (feature hashing; Weinberger et al., ICML 2009).

    Args:
        text: anything; see `words`.
        length: number of tokens returned; words after these are left out.
        vocabulary: number of different tokens, 0 among them.

    Returns:
        `[length]`, 1 to `vocabulary - 1`, and 0 where the text has ended.
    """
    tokens = np.zeros(length, dtype=np.int32)
    for place, word in enumerate(words(text)[:length]):
        # Lone surrogates stand for bytes that were no valid text; they are hashed like any character.
        hashed = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        tokens[place] = 1 + int.from_bytes(hashed, "little") % (vocabulary - 1)
    return tokens


def pretrained_tokens(text: str, length: int, folder: str) -> Tokens:
    """Number the pieces of a text as a pretrained model expects them, with its special tokens.

    Args:
        text: anything.
        length: number of tokens returned; a longer text is cut.
        folder: holds the tokenizer, as `save_pretrained` of `transformers` writes it; nothing is downloaded.

    Returns:
        `[length]`, 0 where the text has ended.

    Raises:
        MissingExtraError: `transformers` is not installed.
        UsageError: there is no such folder, it holds no tokenizer, or one that pads with another number
            than 0.
    """
    return np.array(
        _tokenizer(folder)(text, truncation=True, max_length=length, padding="max_length")["input_ids"],
        dtype=np.int32,
    )


@lru_cache(maxsize=4)
def _tokenizer(folder: str) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise MissingExtraError("transformers", "transformers", "a tokenizer") from error
    tokenizer_fingerprint(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever a damaged folder makes of it
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{folder} holds no tokenizer that transformers can read ({reason}); give a folder written by "
            "save_pretrained."
        ) from error
    if tokenizer.pad_token_id != 0:
        raise UsageError(
            f"the tokenizer in {folder} pads with {tokenizer.pad_token_id}, but 0 marks the end of a text in "
            "a prepared dataset; choose a tokenizer that pads with 0 (BERT, DistilBERT, ELECTRA, T5)."
        )
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    return tokenizer


def tokenizer_fingerprint(folder: str) -> str:
    """Return a hash of the files that make up a tokenizer, whose numbers depend on each of them.

    Raises:
        UsageError: there is no such folder, or no such file in it.
    """
    path = Path(folder).expanduser()
    files = sorted({file for pattern in _TOKENIZER_FILES for file in path.glob(pattern)})
    if not files:
        found = "holds no such file" if path.is_dir() else "is no folder"
        raise UsageError(
            f"the tokenizer {folder} {found}; give a local folder with tokenizer.json or vocab.txt, as "
            "save_pretrained writes it."
        )
    return digest([(file.name, blake2b(file.read_bytes(), digest_size=16).hexdigest()) for file in files])


@dataclass(frozen=True)
class TokensReader(ModalityReader):
    """Reads a text file (UTF-8) as tokens.

    Attributes:
        role: which file of a clip.
        length: number of tokens stored; longer texts are cut, shorter ones end in zeros.
        vocabulary: number of different tokens of `hashed_tokens`; without effect where there is a tokenizer.
        tokenizer: local folder of a pretrained tokenizer; None hashes words.

    Raises:
        UsageError: a length under 1, or a vocabulary under 2.
    """

    role: str = "text"
    length: int = 64
    vocabulary: int = 8192
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        if self.length < 1:
            raise UsageError(f"the length of texts is {self.length}; expected at least 1 token.")
        if self.vocabulary < 2:
            raise UsageError(
                f"the vocabulary is {self.vocabulary}; expected at least 2 tokens, 0 among them."
            )

    @property
    def layout(self) -> Layout:
        """Tokens `[length]`, never normalised."""
        return Layout((self.length,), "int32", "tokens", normalize="none")

    def text(self, clip: Clip) -> str:
        """Return the text of a clip."""
        path = clip.files[self.role]
        check_media(path)
        try:
            return path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise MediaError(
                path,
                "unreadable",
                f"is not UTF-8 text (byte {error.start})",
                "save it as UTF-8, or leave it out",
            ) from error
        except OSError as error:
            raise MediaError(
                path, "unreadable", f"cannot be read ({error.strerror})", "check its permissions"
            ) from error

    def read(self, clip: Clip) -> Tokens:
        """Return the tokens of a clip.

        Raises:
            MediaError: the file is missing, empty, no text, or holds no word.
        """
        text = self.text(clip)
        if not words(text):
            raise MediaError(
                clip.files[self.role],
                "empty",
                f"has no word for {clip.id!r}",
                "write a text, or leave it out",
            )
        if self.tokenizer is None:
            return hashed_tokens(text, self.length, self.vocabulary)
        return pretrained_tokens(text, self.length, self.tokenizer)

    def describe(self) -> dict[str, Any]:
        """Return the name of the reader and its fields; of a tokenizer its hash, not where it lies."""
        described = {"reader": type(self).__name__, **asdict(self)}
        if self.tokenizer is not None:
            described |= {"tokenizer": tokenizer_fingerprint(self.tokenizer), "vocabulary": None}
        return described


__all__ = ["TokensReader", "hashed_tokens", "pretrained_tokens", "tokenizer_fingerprint", "words"]
