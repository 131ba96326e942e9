"""IMDB: 25,000 film reviews to train and 25,000 to test, good or bad."""

import json
import lzma
import tarfile
from pathlib import Path

from tokenizers.normalizers import Lowercase, Replace, Sequence

from training.data import tokens
from training.data.dataset import Dataset
from training.data.files import fetch, find
from training.data.labelled_texts import Rows, dataset
from training.data.remote import RemoteFile
from training.errors import DataError

_ARCHIVE_URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
ARCHIVE = RemoteFile(
    "aclImdb_v1.tar.gz",
    84_125_825,
    "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
    (_ARCHIVE_URL,),
)
# The archive's labelled reviews in two files, taken where they lie in the user's folder.
PACKED = (
    RemoteFile(
        "imdb-train.jsonl.xz",
        9_102_396,
        "9123e15c3bdf53e1ba131ae7850044bcd20881597c05f3c679c515d7fc632255",
        (_ARCHIVE_URL,),
    ),
    RemoteFile(
        "imdb-test.jsonl.xz",
        8_866_484,
        "abf471078d0019a419bf96fd450c5f757b445b265ce72e6d7183f3501e76c65a",
        (_ARCHIVE_URL,),
    ),
)

LABELS = ("negative", "positive")
FOLDERS = ("neg", "pos")
VOCABULARY = 10_000
LENGTH = 400  # tokens, of which a review has 227 at the middle; of longer ones the end is kept

NORMALIZER = Sequence([Lowercase(), Replace("<br />", " ")])


def load(data_dir: Path | None = None) -> Dataset:
    packed = [find("imdb", file, data_dir) for file in PACKED]
    if all(packed):
        train, test = (parse(lzma.decompress(path.read_bytes())) for path in packed if path)
    else:
        train, test = read_archive(fetch("imdb", ARCHIVE, data_dir))
    tokenizer = tokens.learn(train[0], NORMALIZER, VOCABULARY, LENGTH, keep="end")
    return dataset("imdb", train, test, LABELS, tokenizer)


def parse(lines: bytes) -> Rows:
    """Reviews and labels of JSON lines."""
    reviews = [json.loads(line) for line in lines.splitlines()]
    return [review["text"] for review in reviews], [review["label"] for review in reviews]


def read_archive(path: Path) -> tuple[Rows, Rows]:
    """Training and test set of the official archive, in the order of PACKED: by label, then by the
    number in the file's name."""
    found: dict[str, list[tuple[int, int, str]]] = {"train": [], "test": []}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                _, split, folder, name = (*member.name.split("/"), "", "", "")[:4]
                if split in found and folder in FOLDERS and (opened := archive.extractfile(member)):
                    number = int(name.partition("_")[0])
                    found[split].append((FOLDERS.index(folder), number, opened.read().decode()))
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: not a whole archive ({error})") from error
    train, test = (sorted(found[split]) for split in ("train", "test"))
    return _rows(train), _rows(test)


def _rows(reviews: list[tuple[int, int, str]]) -> Rows:
    return [text for _, _, text in reviews], [label for label, _, _ in reviews]
