"""What every benchmark prints: its numbers side by side, and one machine-readable line a claim for the summary."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Claim:
    """One measured number beside its target. ``sense`` is ">=" or "<="; ``target`` None is for the record only."""

    name: str
    value: float
    unit: str
    sense: str = ">="
    target: float | None = None

    @property
    def met(self) -> bool:
        if self.target is None:
            return True
        return self.value >= self.target if self.sense == ">=" else self.value <= self.target

    def line(self) -> str:
        goal = "for the record" if self.target is None else f"target {self.sense} {self.target:g}"
        verdict = "" if self.target is None else (" met" if self.met else " MISSED")
        return f"{self.name:<58} {self.value:>12,.3f} {self.unit:<14} {goal}{verdict}"


def report(claims: list[Claim]) -> None:
    """Print each claim for a person, then as a RESULT line for ``benchmarks/run.py``."""
    for claim in claims:
        print(claim.line())
    for claim in claims:
        print("RESULT " + json.dumps(asdict(claim)))
