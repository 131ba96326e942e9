"""`docs/models.md` says of every committed model what its passport says."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parent.parent
REPOSITORY: Final = ROOT / "model_repository"
PAGE: Final = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
ROWS: Final = {
    row[0].strip("` "): [cell.strip() for cell in row[1:]]
    for row in (line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| `"))
}


def newest(name: str) -> Path:
    return max((REPOSITORY / name).glob("*/passport.json"), key=lambda path: int(path.parent.name))


def stated(proof: dict[str, Any]) -> str:
    if (accuracy := proof["accuracy"]) is not None:
        return f"{accuracy['value']:.2%} of {accuracy['n']:,}".replace("%", " %")
    if proof["task"] == "generation":
        likeness = proof["likeness"]
        return f"Fréchet distance {likeness['value']:.2f} over {likeness['n']:,} pictures"
    if proof["task"] == "translation":
        return f"BLEU {proof['translation']['value']:.2f} over {proof['translation']['n']:,}"
    if proof["task"] == "language":
        return f"{proof['error']['value']:.4g} nats over {proof['error']['n']:,} characters"
    return f"MSE {proof['error']['value']:.4g} over {proof['error']['n']:,}"


def test_every_committed_model_has_a_row() -> None:
    assert ROWS.keys() == {path.name for path in REPOSITORY.iterdir()}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_says_what_the_passport_says(name: str) -> None:
    passport = newest(name)
    proof = json.loads(passport.read_text())
    _, result, parameters, size, *_ = ROWS[name]
    assert result == stated(proof)
    assert parameters == f"{proof['parameters']:,}"
    assert size == f"{passport.with_name('model.onnx').stat().st_size / 1024:,.0f} KiB"


def test_all_committed_models_together_are_small() -> None:
    size = sum(path.stat().st_size for path in REPOSITORY.rglob("*") if path.is_file())
    assert size < 56 * 2**20


def test_the_pictures_of_the_page_are_there() -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", PAGE)
    assert pictures
    assert [name for name in pictures if not (ROOT / "docs" / name).is_file()] == []
