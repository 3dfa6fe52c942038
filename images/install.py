"""Fills a virtual environment while an image is built: `install.py dependencies EXTRA…`, then `install.py project`.

Two calls, because dependencies change seldom and the project at every build: each is a layer of its own. The versions
are those of constraints.txt. The extra `pip` keeps pip in the environment, for images whose users install more;
`-NAME` leaves out a dependency of the project that this image's programs never import.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

SOURCE = Path(__file__).resolve().parent
VENV = Path("/opt/batchyard")
PROJECT = Path("/opt/project")  # same folders as below VENV: an image copies it over the environment
UNUSED = ("tensorflow/include", "clang")  # C++ headers and a compiler's library, which no import of TensorFlow needs


def main() -> None:
    """Do what the command line says."""
    what, *extras = sys.argv[1:]
    if what == "dependencies":
        install_dependencies(extras)
    else:
        pip("--no-deps", "--prefix", str(PROJECT), str(SOURCE))


def install_dependencies(extras: list[str]) -> None:
    """Install what the project needs with these extras (or more requirements, as `pip`), without the project."""
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    known = project["optional-dependencies"]
    left_out = {extra.removeprefix("-") for extra in extras if extra.startswith("-")}
    wanted = [text for text in project["dependencies"] if re.split("[^A-Za-z0-9_-]", text)[0] not in left_out]
    for extra in extras:
        wanted += [] if extra.startswith("-") else known.get(extra, [extra])
    subprocess.run([sys.executable, "-m", "venv", *([] if "pip" in extras else ["--without-pip"]), VENV], check=True)
    pip("--constraint", str(SOURCE / "constraints.txt"), *wanted)
    packages = next(VENV.glob("lib/python3*/site-packages"))
    for folder in UNUSED:
        shutil.rmtree(packages / folder, ignore_errors=True)


def pip(*arguments: str) -> None:
    """Run pip install for the environment."""
    command = [sys.executable, "-m", "pip", "--python", str(VENV / "bin" / "python"), "install", "--quiet"]
    command += ["--disable-pip-version-check", "--no-warn-script-location", "--root-user-action=ignore", *arguments]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
