"""Whole film reviews, from the official archive or from its labelled reviews in two files."""

import io
import lzma
import tarfile
from pathlib import Path

import numpy as np
import pytest

from training.data import imdb, tokens
from training.errors import DataError

MEMBERS = {
    "aclImdb/test/neg/3_1.txt": "Worst film ever",
    "aclImdb/train/pos/10_9.txt": "Loved it<br /><br />Twice",
    "aclImdb/train/neg/7_2.txt": "Dull\u2026",
    "aclImdb/train/pos/9_10.txt": "Fine",
    "aclImdb/train/unsup/0_0.txt": "Not labelled",
    "aclImdb/train/urls_pos.txt": "http://",
    "aclImdb/README": "",
}
TRAIN = (["Dull\u2026", "Fine", "Loved it<br /><br />Twice"], [0, 1, 1])
TEST = (["Worst film ever"], [0])


def archive(path: Path) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, text in MEMBERS.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            file.addfile(info, io.BytesIO(text.encode()))
    return path


def test_the_archive_gives_its_labelled_reviews_by_label_and_number(tmp_path: Path) -> None:
    assert imdb.read_archive(archive(tmp_path / "a.tar.gz")) == (TRAIN, TEST)


@pytest.mark.parametrize("kept", [0, 10, 200])
def test_a_damaged_archive_is_refused(tmp_path: Path, kept: int) -> None:
    path = archive(tmp_path / "a.tar.gz")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"a\.tar\.gz: not a whole archive"):
        imdb.read_archive(path)


def test_lines_give_texts_and_labels() -> None:
    lines = (
        b'{"id": "neg/0_3", "label": 0, "text": "a\\u2028b"}\n{"id": "", "label": 1, "text": "c"}\n'
    )
    assert imdb.parse(lines) == (["a\u2028b", "c"], [0, 1])


def test_marks_of_lines_are_no_words() -> None:
    tokenizer = tokens.learn(["loved it twice"], imdb.NORMALIZER, 50, 8)
    marked, plain = (
        tokens.encode(tokenizer, [text]) for text in ("Loved it<br /><br />twice", "loved it twice")
    )
    np.testing.assert_array_equal(marked, plain)


def test_the_packed_files_hold_as_many_good_reviews_as_bad_ones(data_dir: Path) -> None:
    for file in imdb.PACKED:
        texts, labels = imdb.parse(lzma.decompress((data_dir / "imdb" / file.name).read_bytes()))
        assert (len(texts), sum(labels)) == (25_000, 12_500)
