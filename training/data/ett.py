"""ETTh1: the load and the oil temperature of an electricity transformer, hour by hour."""

import csv
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.data.dataset import Dataset
from training.data.files import fetch
from training.data.remote import RemoteFile
from training.errors import DataError
from training.spec import Normalisation, TensorField

FILE = RemoteFile(
    "ETTh1.csv",
    2_589_657,
    "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
    ("https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv",),
)
COLUMNS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
PAST, FUTURE = 96, 24  # hours
OVERLAP = PAST + FUTURE - 1  # windows before one that share an hour with it
# The usual split: 12 months to train, 4 to validate, which we leave alone, and 4 to test.
TRAIN, VALIDATION, TEST = 8640, 2880, 2880  # hours

Series = npt.NDArray[np.float32]


def load(data_dir: Path | None = None) -> Dataset:
    hours = parse(fetch("ett", FILE, data_dir).read_text("ascii"))
    train, start = hours[:TRAIN], TRAIN + VALIDATION
    train_x, train_y = windows(train)
    # The first test window ends where the test months begin, as everybody has it.
    test_x, test_y = windows(hours[start - PAST : start + TEST])
    mean, deviation = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    return Dataset(
        name="etth1",
        train_x=train_x,
        train_y=train_y,
        test_x=test_x,
        test_y=test_y,
        labels=(),
        field=TensorField("past", "FP32", (PAST, len(COLUMNS))),
        normalisation=Normalisation(
            scale=1.0, mean=tuple(mean.tolist()), std=tuple(deviation.tolist()), axis=2
        ),
        columns=COLUMNS,
        overlap=OVERLAP,
    )


def parse(text: str) -> Series:
    """(hours, variables), in the file's units."""
    rows = list(csv.reader(io.StringIO(text)))
    if not rows or tuple(rows[0]) != ("date", *COLUMNS):
        raise DataError(f"{FILE.name}: its header is not date,{','.join(COLUMNS)}")
    try:
        hours = np.array([row[1:] for row in rows[1:]], dtype=np.float32)
    except ValueError as error:
        raise DataError(f"{FILE.name}: not a table of numbers ({error})") from error
    if len(hours) < TRAIN + VALIDATION + TEST:
        raise DataError(f"{FILE.name}: ends after {len(hours)} hours")
    return hours


def windows(hours: Series) -> tuple[Series, Series]:
    """Each stretch of PAST hours (N, PAST, V), with the FUTURE hours behind it (N, FUTURE, V)."""
    view = np.lib.stride_tricks.sliding_window_view(hours, PAST + FUTURE, axis=0)
    stretches = np.ascontiguousarray(view.transpose(0, 2, 1))  # (N, PAST + FUTURE, V)
    return stretches[:, :PAST].copy(), stretches[:, PAST:].copy()
