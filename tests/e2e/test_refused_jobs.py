"""Jobs that can't run say why: a wrong handler, a broken model, an image that nobody has."""

import pytest
from job_space import Space, condition

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_a_handler_that_breaks_the_contract_fails_the_job_with_its_line(space: Space) -> None:
    handler = "class Handler:\n    def __init__(self, config): ...\n    def handle_batch(self, items): ...\n"
    space.submit("wrong", handler, input={"items": [1, 2, 3]}, workers=2)
    status = space.ended("wrong")
    assert (status["state"], status["reason"]) == ("Failed", "HandlerInvalid"), status
    assert "handler.py" in status["message"]
    assert "handle_batch" in status["message"]
    assert status["batches"].get("succeeded", 0) == 0
    assert condition(status, "Failed")["status"] == "True"
    assert "items" in space.kubectl("describe", "batchjob", "wrong")


def test_a_model_that_does_not_load_fails_the_job_before_any_batch(space: Space) -> None:
    volume = space.volume()
    space.node.write(f"{space.name}/model/1/saved_model.pb", "this is no graph")
    handler = (
        "class Handler:\n"
        "    def __init__(self, tensorflow_client, config):\n"
        "        pass\n"
        "    def handle_batch(self, payload):\n"
        "        pass\n"
    )
    space.submit(
        "broken",
        handler,
        handler={"type": "tensorflow", "models": {"path": "/results/model"}},
        input={"items": [1, 2, 3]},
        pod={"volumes": [volume], "volumeMounts": [{"name": "results", "mountPath": "/results"}]},
    )
    status = space.ended("broken", patience=300)
    assert (status["state"], status["reason"]) == ("Failed", "ModelInvalid"), status
    assert "model" in status["message"]
    assert status["batches"].get("succeeded", 0) == 0


def test_an_image_that_nobody_has_is_told_as_the_reason_of_the_stall(space: Space) -> None:
    handler = "class Handler:\n    def __init__(self, config): ...\n    def handle_batch(self, payload): ...\n"
    space.submit("away", handler, handler={"image": "localhost/nobody-has-this:1"}, input={"items": [1]})
    status = space.wait("away", lambda status: condition(status, "Stalled").get("status") == "True", "Stalled", 90)
    assert "localhost/nobody-has-this:1" in condition(status, "Stalled")["message"], status
    assert status["state"] in ("Pending", "Enqueuing", "Running")
