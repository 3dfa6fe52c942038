"""The pages say what the chart does: rights, values, commands."""

import re

import pytest
import yaml
from chart_harness import CHART, ROOT, Helm, one

PAGES = [ROOT / "docs" / "install.md", ROOT / "docs" / "security.md"]


def test_the_page_on_security_lists_the_rights_that_are_granted(helm: Helm) -> None:
    rows = re.findall(r"^\| (`?[\w.]+`?) \| `([\w/]+)` \| ([\w, ]+) \| \S", PAGES[1].read_text(), re.MULTILINE)
    said = {(group.strip("`").replace("core", ""), name): verbs.split(", ") for group, name, verbs in rows}
    rules = one(helm.render("--set=rbac.aggregate=false"), "ClusterRole")["rules"]
    granted = {(g, name): rule["verbs"] for rule in rules for g in rule["apiGroups"] for name in rule["resources"]}
    assert said == granted


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_each_value_that_is_named_on_a_page_exists(page) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    named = re.findall(
        r"\b((?:crds|images|jobs|operator|serviceAccount|rbac|queue|nats|networkPolicy|trial)(?:\.[a-zA-Z]+)+)",
        re.sub(r"nats\.example\.com|nats\.conf", "", page.read_text()),
    )
    assert named
    for name in named:
        found = values
        for part in name.split("."):
            assert part in found, name
            found = found[part]
