"""`helm test` ends as its job does: the script that it runs, on a real API server, with the rights that it has."""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from api_server import ApiServer
from batchyard.api.manifest import parse
from batchyard.api.status import State
from chart_harness import CHART, Helm, Object, is_hook, one
from operator_harness import know_batchjobs

_numbers = itertools.count()


@pytest.fixture
def trial(helm: Helm, api_server: ApiServer, tmp_path: Path) -> Iterator["Trial"]:
    """The hooks of `helm test`, made on a server as helm makes them."""
    know_batchjobs(api_server)
    made = Trial(helm, api_server, tmp_path, f"trial-{next(_numbers)}")
    yield made
    made.close()


class Trial:
    """One run of the script, as the pod of `helm test` runs it."""

    def __init__(self, helm: Helm, server: ApiServer, folder: Path, namespace: str) -> None:
        assert server.kubectl("create", "namespace", namespace).returncode == 0
        flags = (f"--set=namespaces={{{namespace}}}", "--set=trial.timeout=60")
        self.hooks = [o for o in helm.render(*flags) if is_hook(o)]
        for seen in sorted(self.hooks, key=lambda o: int(o["metadata"]["annotations"]["helm.sh/hook-weight"])):
            if seen["kind"] != "Pod":
                applied = server.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(seen))
                assert applied.returncode == 0, applied.stderr
        self.server = server
        self.pod = one(self.hooks, "Pod")
        account = one(self.hooks, "ServiceAccount")["metadata"]
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account['name']}/token"
        config = json.loads(server.kubeconfig.read_text())
        token = server.request("POST", path, {"spec": {"expirationSeconds": 3600}})[1]["status"]["token"]
        config["users"][0]["user"] = {"token": token}
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(config))
        self._job = f"/apis/batchyard.dev/v1alpha1/namespaces/{namespace}/batchjobs/{account['name']}/status"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Iterator[str]:
        """Run the pod's command with its account, and return its lines as they come."""
        command = [sys.executable, *self.pod["spec"]["containers"][0]["command"][1:]]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={"KUBECONFIG": str(self.kubeconfig), "PATH": ""}
        )
        assert self._process.stdout
        return iter(self._process.stdout)

    def tell(self, **status: object) -> None:
        """Write the job's status, as the operator does."""
        code, answer = self.server.request(
            "PATCH", self._job, {"status": status}, kind="application/merge-patch+json"
        )
        assert code == 200, answer

    def end(self) -> int:
        assert self._process
        return self._process.wait(60)

    def close(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process and self._process.stdout:
            self._process.stdout.close()


@pytest.mark.parametrize(("state", "code"), [("Succeeded", 0), ("CompletedWithFailures", 1)])
def test_the_trial_ends_as_its_job_does(trial: Trial, state: str, code: int) -> None:
    lines = trial.start()
    assert next(lines).endswith(": not looked at yet\n")
    trial.tell(state="Running", progress="1/3")
    assert next(lines).endswith(": Running 1/3\n")
    trial.tell(state=state, progress="3/3", message="that was it")
    assert next(lines).endswith(f": {state} 3/3 that was it\n")
    assert trial.end() == code


def test_the_trial_says_what_the_api_server_refuses(trial: Trial) -> None:
    config = json.loads(trial.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": "of nobody"}
    trial.kubeconfig.write_text(json.dumps(config))
    assert next(trial.start()).endswith(": the API server answers 401 Unauthorized\n")


def test_the_trials_job_is_one_that_batchyard_takes(helm: Helm, tmp_path: Path) -> None:
    job = parse(yaml.safe_dump(one(helm.render(), "BatchJob")), tmp_path)
    assert job.job.spec.input.items == [1, 2, 3]


def test_the_trial_knows_each_state_in_which_a_job_ends() -> None:
    text = (CHART / "files" / "trial.py").read_text()
    assert all(f'"{state}"' in text for state in State if state.is_ended)


def test_nothing_of_the_trial_is_installed_with_the_chart(helm: Helm) -> None:
    hooks: list[Object] = [o for o in helm.render() if is_hook(o)]
    assert {o["kind"] for o in hooks} == {"ServiceAccount", "Role", "RoleBinding", "BatchJob", "Pod"}
    assert {o["metadata"]["annotations"]["helm.sh/hook"] for o in hooks} == {"test"}
