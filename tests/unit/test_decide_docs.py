"""The page on troubleshooting knows every state and reason that a status can show, and no other."""

import re
from pathlib import Path

import pytest
from batchyard.api.status import FailureReason, Reason, StallReason, State

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
SECTIONS = {
    "States": State,
    "Why a job ended, or stands still": Reason,
    "Why a job makes no progress": StallReason,
    "Failed batches": FailureReason,
}


@pytest.mark.parametrize("title", [pytest.param(title, id=title) for title in SECTIONS])
def test_every_constant_has_its_row_with_what_to_do(title: str) -> None:
    section = PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    assert [name for name, _, _ in rows] == [constant.value for constant in SECTIONS[title]]


def test_links_lead_to_sections() -> None:
    anchors = {heading.lower().replace(",", "").replace(" ", "-") for heading in re.findall(r"^## (.+)$", PAGE, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors
