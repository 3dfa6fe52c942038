"""Helm as a user runs it on the chart, without a cluster unless one is given."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "batchyard"
VALUES = sorted((ROOT / "tests" / "chart" / "values").glob("*.yaml"))
RELEASE, NAMESPACE = "yard", "batchyard-system"

Object = dict[str, Any]


def helm_binary() -> str | None:
    """Return the test bed's helm, else the one on PATH."""
    built = Path(os.environ.get("CLUSTER_DIR") or ROOT / ".work" / "cluster") / "bin" / "helm"
    return str(built) if built.exists() else shutil.which("helm")


class Helm:
    """Runs helm with its caches below ``folder``. Without ``kubeconfig`` it reaches no cluster."""

    def __init__(self, folder: Path, kubeconfig: Path | None = None) -> None:
        homes = {f"HELM_{kind}_HOME": str(folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "KUBECONFIG": str(kubeconfig or folder / "none"),
            **homes,
        }

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run it to its end, whatever it says."""
        command = [str(helm_binary()), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=self._env)

    def render(self, *flags: str | Path, release: str = RELEASE) -> list[Object]:
        """Return the objects of a release with these flags."""
        answer = self.run("template", release, CHART, "--namespace", NAMESPACE, *flags)
        assert answer.returncode == 0, answer.stderr
        return [found for found in yaml.safe_load_all(answer.stdout) if found]

    def refusal(self, *flags: str) -> str:
        """Return what helm says to flags that it must refuse."""
        answer = self.run("template", RELEASE, CHART, "--namespace", NAMESPACE, *flags)
        assert answer.returncode != 0, "it took them"
        return answer.stderr


def one(objects: Sequence[Object], kind: str, name: str = "") -> Object:
    """Return the only object of a kind, or of a kind and a name."""
    found = [o for o in objects if o["kind"] == kind and name in ("", o["metadata"]["name"])]
    assert len(found) == 1, [o["metadata"]["name"] for o in found]
    return found[0]


def is_hook(seen: Object) -> bool:
    """Whether helm makes the object for `helm test` alone."""
    return "helm.sh/hook" in seen["metadata"].get("annotations", {})
