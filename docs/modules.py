"""Writes the tables of modules in docs/architecture.md from the first lines of their docstrings: `make docs`."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
OURS = {"__init__", "__main__"}
ORDER = ("api", "queue", "storage", "handler", "enqueue", "serving", "models", "output", "projects", "worker", "pod")
HALVES = {
    "library": (ROOT / "worker" / "batchyard", (*ORDER, "local", "cli")),
    "operator": (ROOT / "operator" / "batchyard_operator", ("", "observe", "decide", "render", "act")),
}


def first_line(module: Path) -> str:
    """Return the first line of a module's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(module.read_text())) or ""
    return text.partition("\n")[0].strip().rstrip(".").replace("``", "`")


def table(package: Path, folders: tuple[str, ...]) -> str:
    """Return one row a module, packages in the order given; one that is not named there ends the program."""
    missing = {path.parent.name for path in package.glob("*/*.py")} - set(folders)
    if missing:
        sys.exit(f"docs/modules.py: found the packages {', '.join(sorted(missing))}, expected them in its HALVES")
    rows = ["| package | module | its one job |", "| --- | --- | --- |"]
    for folder in folders:
        shown = f"`{folder}`" if folder else ""
        for path in sorted((package / folder).glob("*.py")):
            if path.stem not in OURS:
                rows.append(f"| {shown} | `{path.stem}` | {first_line(path)} |")
                shown = ""
    return "\n".join(rows)


def written(page: str) -> str:
    """Return the page with fresh tables between their marks."""
    for name, (package, folders) in HALVES.items():
        begin, end = f"<!-- modules of the {name} -->\n", f"\n<!-- end of the {name} -->"
        head, found, rest = page.partition(begin)
        _, also, tail = rest.partition(end)
        if not found or not also:
            sys.exit(f"docs/modules.py: found no marks for the {name} in {PAGE.name}, expected {begin.strip()}")
        page = f"{head}{begin}{table(package, folders)}{end}{tail}"
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
