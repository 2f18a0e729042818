"""Texts to tokens, against an independent definition and a real WordPiece tokenizer."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.data.prepare.clips import Clip
from equipoise.data.prepare.media.files import MediaError
from equipoise.data.prepare.media.text import hashed_tokens, tokenizer_fingerprint, words
from equipoise.data.prepare.readers.text import TokensReader
from equipoise.types import UsageError

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "apple", "pie", "##s", "best")


def _slow(text: str, length: int, vocabulary: int) -> list[int]:
    """Hash words of ASCII letters and spaces, byte by byte."""
    numbers = []
    for word in text.lower().split(" "):
        if word:
            digest = hashlib.new("blake2b", word.encode("ascii"), digest_size=8).digest()
            value = sum(byte * 256**place for place, byte in enumerate(digest))
            numbers.append(value % (vocabulary - 1) + 1)
    return (numbers + [0] * length)[:length]


@settings(max_examples=100, deadline=None)
@given(
    st.text("abcXYZ ", max_size=40),
    st.integers(1, 12),
    st.integers(2, 9000),
)
def test_tokens_equal_the_slow_definition(text: str, length: int, vocabulary: int) -> None:
    tokens = hashed_tokens(text, length, vocabulary)
    assert tokens.dtype == np.int32
    assert tokens.tolist() == _slow(text, length, vocabulary)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60), st.integers(1, 20), st.integers(2, 50))
def test_any_text_gives_tokens_followed_by_zeros(text: str, length: int, vocabulary: int) -> None:
    tokens = hashed_tokens(text, length, vocabulary)
    used = min(len(words(text)), length)
    assert tokens.shape == (length,)
    assert ((tokens[:used] >= 1) & (tokens[:used] < vocabulary)).all()
    assert not tokens[used:].any()


def test_a_number_computed_separately() -> None:
    # `printf apple | b2sum -l 64` prints 960eb5a047f5aedf; little endian, modulo 8191, plus 1.
    assert hashed_tokens("Apple", 2).tolist() == [4621, 0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Crème BRÛLÉE", ["crème", "brûlée"]),
        ("cre\u0300me", ["cr\u00e8me"]),  # composed
        ("re\u00adcipe", ["recipe"]),  # soft hyphen
        ("\ufeffpie", ["pie"]),
        ("Straße", ["strasse"]),  # case folding, not lower case
        ("grandma\u2019s 'best' don't", ["grandma's", "best", "don't"]),
        ("\uff30\uff29\uff25 \uff11\uff12", ["pie", "12"]),  # full width
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("pie,apple;best_of-all", ["pie", "apple", "best", "of", "all"]),
        ("-- ' !? \u2019", []),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_long_texts_are_cut_and_short_ones_padded_with_zeros() -> None:
    whole = hashed_tokens("one two three four five", 8)
    assert (whole[:5] > 0).all()
    assert whole[5:].tolist() == [0, 0, 0]
    assert hashed_tokens("one two three four five", 3).tolist() == whole[:3].tolist()


def test_every_process_gives_the_same_tokens() -> None:
    code = (
        "from equipoise.data.prepare.media.text import hashed_tokens as h; print(h('apple pie', 5).tolist())"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        )
        assert done.stdout.strip() == str(hashed_tokens("apple pie", 5).tolist())


def _clip(path: Path) -> Clip:
    return Clip("sample", "class", {"text": path})


def test_a_file_gives_the_tokens_of_its_text(tmp_path: Path) -> None:
    path = tmp_path / "a text.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "Crème\r\nbrûlée".encode())
    assert TokensReader(length=4).read(_clip(path)).tolist() == hashed_tokens("crème brûlée", 4).tolist()


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        (None, "missing", "is missing"),
        (b"", "empty", "zero length"),
        (b"caf\xe9", "unreadable", r"encoding 'utf-8' \(byte 3\)"),
        (b"?! -- '", "empty", "no word for 'sample'"),
    ],
)
def test_files_without_text(tmp_path: Path, content: bytes | None, reason: str, message: str) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match=message) as caught:
        TokensReader().read(_clip(path))
    assert caught.value.reason == reason
    assert "text.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"length": 0}, {"vocabulary": 1}])
def test_invalid_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="expected (at least|a number above)"):
        TokensReader(**options)


def _tokenizer(folder: Path, vocabulary: tuple[str, ...] = VOCABULARY) -> str:
    transformers = pytest.importorskip("transformers")
    folder.mkdir()
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocabulary))
    given = {piece: number for number, piece in enumerate(vocabulary)}
    transformers.BertTokenizer(vocab=given).save_pretrained(folder)
    return str(folder)


def test_a_pretrained_tokenizer(tmp_path: Path) -> None:
    folder = _tokenizer(tmp_path / "bert")
    path = tmp_path / "text.txt"
    path.write_text("Best apple pies, unheard")
    pieces = ["[CLS]", "best", "apple", "pie", "##s", "[UNK]", "[UNK]", "[SEP]"]
    numbers = [VOCABULARY.index(piece) for piece in pieces]
    assert TokensReader(length=10, tokenizer=folder).read(_clip(path)).tolist() == [*numbers, 0, 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        assert TokensReader(length=8, tokenizer="~/bert").read(_clip(path)).tolist() == numbers
    cut = [*numbers[:3], VOCABULARY.index("[SEP]")]
    assert TokensReader(length=4, tokenizer=folder).read(_clip(path)).tolist() == cut


def test_a_tokenizer_with_another_padding_token_is_refused(tmp_path: Path) -> None:
    folder = _tokenizer(tmp_path / "bert", (*VOCABULARY[1:], "[PAD]"))
    path = tmp_path / "text.txt"
    path.write_text("apple")
    with pytest.raises(UsageError, match=f"pads with {len(VOCABULARY) - 1}"):
        TokensReader(tokenizer=folder).read(_clip(path))


def test_the_fingerprint_depends_on_the_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vocab.txt").write_text("apple\n")
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert tokenizer_fingerprint(one) == tokenizer_fingerprint(two)
    described = TokensReader(tokenizer=one).describe()
    assert described["tokenizer"] == tokenizer_fingerprint(one)
    assert described == TokensReader(tokenizer=two).describe()
    (tmp_path / "two" / "vocab.txt").write_text("apples\n")
    assert tokenizer_fingerprint(one) != tokenizer_fingerprint(two)


def test_folders_without_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no such file"):
        tokenizer_fingerprint(str(tmp_path))
    with pytest.raises(UsageError, match="is no folder"):
        tokenizer_fingerprint(str(tmp_path / "nowhere"))
