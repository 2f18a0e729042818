"""Convert texts to tokens: hashed words, or the tokenizer of a pretrained model."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equipoise.data.format.content import digest
from equipoise.files.extras import needing
from equipoise.files.limits import check_machine
from equipoise.types import UsageError

Tokens = NDArray[np.int32]
_APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}"
_TOKENIZER_FILES = ("*.json", "*.txt", "*.model", "*.tiktoken")


class _WordCharacters(dict[int, int | None]):
    """Table for `str.translate`: keeps characters of words, deletes invisible ones, turns others into spaces.

    Marks are characters of words, unlike in a regular expression, which would split Devanagari at vowel
    signs.
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
    """Return the words of a text in lower case: runs of letters, digits, marks and inner apostrophes.

    Equivalent forms of a character (composed or not, full width or not) become equal.
    """
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_WORD_CHARACTERS)
    stripped = (word.strip("'") for word in plain.split())
    return [word for word in stripped if word]


def hashed_tokens(text: str, length: int, vocabulary: int = 8192) -> Tokens:
    """Convert the words of a text to numbers by hashing; no vocabulary is learnt, so that none can leak.

    The number of a word is 1 + h mod (vocabulary - 1), where h is the first 8 bytes of its BLAKE2b hash;
    words may share a number (feature hashing; Weinberger et al., ICML 2009).

    Returns:
        `[length]`, 1 to `vocabulary - 1`, padded with 0; further words (see `words`) are cut.
    """
    tokens = np.zeros(length, dtype=np.int32)
    for place, word in enumerate(words(text)[:length]):
        # Lone surrogates represent bytes that are not valid text; they are hashed like other characters.
        hashed = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        tokens[place] = 1 + int.from_bytes(hashed, "little") % (vocabulary - 1)
    return tokens


def pretrained_tokens(text: str, length: int, folder: str) -> Tokens:
    """Convert a text to the tokens of a pretrained model, including its special tokens.

    `folder` holds the tokenizer, as `save_pretrained` of `transformers` writes it; nothing is downloaded.

    Returns:
        `[length]`, padded with 0; a longer text is cut.

    Raises:
        MissingExtraError: `transformers` is not installed.
        UsageError: the folder does not exist, or holds no tokenizer that pads with 0.
    """
    return np.array(
        _tokenizer(folder)(text, truncation=True, max_length=length, padding="max_length")["input_ids"],
        dtype=np.int32,
    )


@lru_cache(maxsize=4)
def _tokenizer(folder: str) -> Any:
    with needing("transformers", "transformers", "a tokenizer"):
        from transformers import AutoTokenizer
    tokenizer_fingerprint(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(Path(folder).expanduser(), local_files_only=True)
    except Exception as error:  # a damaged folder can raise any error
        check_machine(error)
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{folder} holds no tokenizer that transformers can read ({reason}); give a folder written by "
            "save_pretrained."
        ) from error
    if tokenizer.pad_token_id != 0:
        raise UsageError(
            f"the tokenizer in {folder} pads with {tokenizer.pad_token_id}, but a prepared dataset pads "
            "with 0; choose a tokenizer that pads with 0 (BERT, DistilBERT, ELECTRA, T5)."
        )
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    return tokenizer


def tokenizer_fingerprint(folder: str) -> str:
    """Return a hash of the files of a tokenizer, or raise UsageError if the folder has none."""
    path = Path(folder).expanduser()
    files = sorted({file for pattern in _TOKENIZER_FILES for file in path.glob(pattern)})
    if not files:
        found = "holds no such file" if path.is_dir() else "is no folder"
        raise UsageError(
            f"the tokenizer {folder} {found}; give a local folder with tokenizer.json or vocab.txt, as "
            "save_pretrained writes it."
        )
    return digest([(file.name, blake2b(file.read_bytes(), digest_size=16).hexdigest()) for file in files])
