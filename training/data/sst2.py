"""SST-2 of GLUE: 67,349 phrases of film reviews to train and 872 sentences to test, which are the
development set, as the labels of GLUE's own test set are not published."""

import csv
import io
import zipfile
from pathlib import Path

from tokenizers import Regex
from tokenizers.normalizers import Lowercase, Replace, Sequence

from training.data import tokens
from training.data.dataset import Dataset
from training.data.files import fetch, find
from training.data.labelled_texts import Rows, dataset
from training.data.remote import RemoteFile
from training.errors import DataError

_ARCHIVE_URL = "https://dl.fbaipublicfiles.com/glue/data/SST-2.zip"
ARCHIVE = RemoteFile(
    "SST-2.zip",
    7_439_277,
    "d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa",
    (_ARCHIVE_URL,),
)
# The archive's members, taken where they lie unpacked in the user's folder.
TRAIN = RemoteFile(
    "train.tsv",
    3_806_081,
    "48eac26399f8456935f81dd9e3a745c1430adb6c62e233ccfe22db4a0d15d1d1",
    (_ARCHIVE_URL,),
)
DEV = RemoteFile(
    "dev.tsv",
    94_931,
    "54a9c12c77e402fc14d6a66a506f24d999f596b0176eb777c972cccc2f9cc4b0",
    (_ARCHIVE_URL,),
)

LABELS = ("negative", "positive")
VOCABULARY = 8_000
LENGTH = 64  # tokens; the longest phrase has a few more words than that

# The set is lower-case and cut as the Penn Treebank is: what people type is brought to that.
NORMALIZER = Sequence(
    [
        Lowercase(),
        Replace("\u2019", "'"),
        Replace(Regex(r"n't\b"), " n't"),
        Replace("(", " -lrb- "),
        Replace(")", " -rrb- "),
    ]
)


def load(data_dir: Path | None = None) -> Dataset:
    train, dev = (
        parse(text, file.name) for text, file in zip(_read(data_dir), (TRAIN, DEV), strict=True)
    )
    tokenizer = tokens.learn(train[0], NORMALIZER, VOCABULARY, LENGTH)
    return dataset("sst2", train, dev, LABELS, tokenizer)


def parse(text: str, name: str) -> Rows:
    """Texts and labels of a table with a header. DataError if it is none."""
    rows = list(csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or rows[0] != ["sentence", "label"]:
        raise DataError(f"{name}: its header is not sentence and label")
    if bad := [n for n, row in enumerate(rows, 1) if len(row) != 2 or row[1] not in "01"][1:]:
        raise DataError(f"{name}: line {bad[0]} is not a sentence and 0 or 1")
    return [row[0].strip() for row in rows[1:]], [int(row[1]) for row in rows[1:]]


def _read(data_dir: Path | None) -> tuple[str, str]:
    train, dev = (find("sst2", file, data_dir) for file in (TRAIN, DEV))
    if train and dev:
        return train.read_text("utf-8"), dev.read_text("utf-8")
    path = fetch("sst2", ARCHIVE, data_dir)
    try:
        with zipfile.ZipFile(path) as archive:
            train_text, dev_text = (
                archive.read(f"SST-2/{file.name}").decode() for file in (TRAIN, DEV)
            )
    except (zipfile.BadZipFile, KeyError, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a whole archive ({error})") from error
    return train_text, dev_text
