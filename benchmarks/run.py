"""Runs the benchmark programs one after another and sums up which targets were met: what `make bench` calls.

`python benchmarks/run.py [--in FOLDER] [NAME…]` runs only those (`worker_start`, `queue_port`, …), of a folder beside
this file (`cluster`, `s3`). Exit code 1 when a target was missed or a program failed. The last line is the summary.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from report import Claim

HERE = Path(__file__).parent
NOT_BENCHMARKS = {"report", "run"}
RESULT = "RESULT "


def programs(folder: Path, wanted: list[str]) -> list[Path]:
    """Return the programs to run, by name; ends with a sentence when a wanted one does not exist."""
    found = {path.stem: path for path in sorted(folder.glob("*.py")) if path.stem not in NOT_BENCHMARKS}
    names = [name.removesuffix(".py") for name in wanted] or list(found)
    if unknown := [name for name in names if name not in found]:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are {', '.join(found)}")
    return [found[name] for name in names]


def load() -> str:
    return "load " + " ".join(f"{value:.2f}" for value in os.getloadavg())


def run(program: Path) -> tuple[list[Claim], int]:
    """Run one program, passing its output on; return its claims and exit code."""
    claims = []
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(RESULT):
                claims.append(Claim(**json.loads(line.removeprefix(RESULT))))
            else:
                print("  " + line, end="", flush=True)
    return claims, process.returncode


def main(wanted: list[str]) -> int:
    claims: list[Claim] = []
    failed: list[str] = []
    folder = HERE
    if wanted[:1] == ["--in"] and len(wanted) > 1:
        folder, wanted = HERE / wanted[1], wanted[2:]
    for program in programs(folder, wanted):
        print(f"\n{program.stem} ({load()})", flush=True)
        found, code = run(program)
        claims += found
        if code != 0 or not found:
            failed.append(program.stem)
        print(f"  {load()} after, exit code {code}", flush=True)
    print(f"\nall claims, {os.cpu_count()} cores")
    for claim in claims:
        print("  " + claim.line())
    print(f"\n{summary(claims, failed)}")
    return 1 if failed or not all(claim.met for claim in claims) else 0


def summary(claims: list[Claim], failed: list[str]) -> str:
    """Return the one line that says how it went."""
    judged = [claim for claim in claims if claim.target is not None]
    missed = [claim.name for claim in judged if not claim.met]
    text = f"bench: {len(judged) - len(missed)} of {len(judged)} targets met"
    if missed:
        text += f"; missed: {', '.join(missed)}"
    if failed:
        text += f"; failed to run: {', '.join(failed)}"
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
