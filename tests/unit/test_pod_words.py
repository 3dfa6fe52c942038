"""The sentence that a container leaves for Kubernetes."""

from pathlib import Path

import pytest
from batchyard.api.last_words import MOST_BYTES, PLACE_VARIABLE, leave_word, shortened


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        pytest.param("all of it", 100, "all of it", id="short"),
        pytest.param("x" * 20, 10, "x" * 7 + "…", id="long"),
        pytest.param("é" * 20, 10, "é" * 3 + "…", id="never half a character"),
        pytest.param("\ud800", 10, "?", id="half a surrogate pair"),
    ],
)
def test_a_word_keeps_its_beginning(text: str, most: int, expected: str) -> None:
    assert shortened(text, most).decode() == expected
    assert len(shortened(text, most)) <= most


def test_a_word_is_left_where_the_container_has_a_place_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "log"
    monkeypatch.setenv(PLACE_VARIABLE, str(place))
    leave_word("nowhere to write this")
    assert not place.exists()
    place.touch()
    leave_word("y" * 5000)
    assert place.stat().st_size == MOST_BYTES
    monkeypatch.setenv(PLACE_VARIABLE, str(tmp_path))
    leave_word("a folder is no place")
