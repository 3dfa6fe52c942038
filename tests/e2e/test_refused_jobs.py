"""Jobs that can't run say why: a wrong handler, a broken model, an image that nobody has.

They are submitted together: giving a model up takes minutes of waiting between tries.
"""

from collections.abc import Iterator

import pytest
from cluster_harness import Cluster, Node
from job_space import Space, condition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


IDLE = "class Handler:\n    def __init__(self, config): ...\n    def handle_batch(self, payload): ...\n"


@pytest.fixture(scope="module")
def refused(cluster: Cluster, node: Node, release: str) -> Iterator[Space]:
    """A namespace with a job of each kind."""
    space = Space(cluster, node, "e2e-refused-jobs")
    items = {"items": [1, 2, 3]}
    volume = space.volume()
    node.write(f"{space.name}/model/1/saved_model.pb", "this is no graph")
    space.submit(
        "model",
        IDLE.replace("config", "tensorflow_client, config"),
        handler={"type": "tensorflow", "models": {"path": "/results/model"}},
        input=items,
        pod={"volumes": [volume], "volumeMounts": [{"name": "results", "mountPath": "/results"}]},
    )
    space.submit("handler", IDLE.replace("payload", "items"), input=items, workers=2)
    space.submit("image", IDLE, handler={"image": "localhost/nobody-has-this:1"}, input=items)
    yield space
    space.close()


def test_an_image_that_nobody_has_is_told_as_the_reason_of_the_stall(refused: Space) -> None:
    status = refused.wait("image", lambda status: condition(status, "Stalled").get("status") == "True", "Stalled", 90)
    assert "localhost/nobody-has-this:1" in condition(status, "Stalled")["message"], status
    assert status["state"] in ("Pending", "Enqueuing", "Running")


def test_a_handler_that_breaks_the_contract_fails_the_job_with_its_line(refused: Space) -> None:
    status = refused.ended("handler")
    assert (status["state"], status["reason"]) == ("Failed", "HandlerInvalid"), status
    assert "handler.py, line 3" in status["message"]
    assert "handle_batch" in status["message"]
    assert status["batches"].get("succeeded", 0) == 0
    assert condition(status, "Failed")["status"] == "True"
    assert "HandlerInvalid" in refused.kubectl("describe", "batchjob", "handler")


def test_a_model_that_does_not_load_stalls_and_then_fails_the_job_before_any_batch(refused: Space) -> None:
    status = refused.wait("model", lambda status: condition(status, "Stalled").get("status") == "True", "Stalled")
    assert "saved_model.pb is damaged" in condition(status, "Stalled")["message"], status
    status = refused.ended("model", patience=400)
    assert (status["state"], status["reason"]) == ("Failed", "ModelInvalid"), status
    assert "saved_model.pb is damaged" in status["message"]
    assert status["batches"].get("succeeded", 0) == 0
