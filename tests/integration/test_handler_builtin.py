"""The built-in handler with real models behind a real server."""

import numpy as np
import pytest
from batchyard.handler import builtin, contract
from batchyard.handler.errors import HandlerInvalid
from batchyard.serving.client import InvalidInput, ServedModel, TensorflowClient

pytestmark = pytest.mark.tensorflow

MODELS = {"half_plus": (1, 2, 10), "shapes": (1,), "strings": (1,)}


@pytest.fixture(scope="module")
def make_handler(start_server, model_config):
    """A function of (models, config): the built-in handler as a worker makes it."""
    server = start_server(f"--model_config_file={model_config(*MODELS)}").wait_until_ready()
    clients = []

    def make(*names, **config):
        keys = {"shapes": config.pop("signature", None)}
        models = [ServedModel(name, MODELS[name], keys.get(name)) for name in names]
        clients.append(TensorflowClient(server.address, models, deadline=30))
        spec = contract.check(builtin, "tensorflow")
        return contract.construct(spec, tensorflow_client=clients[-1], config=config)

    yield make
    for client in clients:
        client.close()


def plain(results):
    return [{name: np.asarray(value).tolist() for name, value in result.items()} for result in results]


def test_bare_values_go_to_the_only_input(make_handler):
    results = make_handler("half_plus").handle_batch([[0, 2, 4], [2, 2, 2]])
    assert plain(results) == [{"y": [10, 11, 12]}, {"y": [11, 11, 11]}]


def test_objects_give_each_input_its_field_and_other_fields_are_left_alone(make_handler):
    items = [{"id": 7, "a": [1, 2, 3, 4], "b": [1, 1, 1, 1]}, {"id": 8, "a": [0, 0, 0, 0], "b": [2, 2, 2, 2]}]
    results = make_handler("shapes").handle_batch(items)
    assert plain(results) == [
        {"sum": [2, 3, 4, 5], "product": [1, 2, 3, 4]},
        {"sum": [2, 2, 2, 2], "product": [0, 0, 0, 0]},
    ]


def test_config_names_model_version_and_fields(make_handler):
    handler = make_handler("half_plus", "strings", model_name="half_plus", model_version=1, inputs={"x": "features"})
    assert plain(handler.handle_batch([{"features": [0, 2, 4]}])) == [{"y": [1, 2, 3]}]


def test_text_goes_in_and_comes_out_as_text(make_handler):
    results = make_handler("strings").handle_batch(["grün", "b"])
    assert [(r["upper"], int(r["length"]), r["raw_bytes"]) for r in results] == [
        ("GRÜN", 5, "grün".encode()),
        ("B", 1, b"b"),
    ]


def test_outputs_that_are_not_one_an_item_are_returned_once(make_handler):
    result = make_handler("shapes", signature="total").handle_batch([[1, 2], [3, 4]])
    assert {name: float(value) for name, value in result.items()} == {"total": 10.0}


REFUSED = [
    pytest.param(
        "half_plus",
        [[1, 2, 3], [1, 2]],
        "item 1: input 'x' has the shape [2]; the model takes 'x' as float32",
        id="shape",
    ),
    pytest.param("half_plus", [[1, 2, 3], ["a", "b", "c"]], "item 1: input 'x' holds text", id="text for numbers"),
    pytest.param("half_plus", [[1, 2, 3], [1, 2, "c"]], "item 1: input 'x' holds text among numbers", id="mixed"),
    pytest.param("half_plus", [[1, 2, 3], [1, None, 3]], "item 1: input 'x' holds null", id="null"),
    pytest.param("half_plus", [[1, 2, 3], [[1], 2, 3]], "item 1: the lists of input 'x' are ragged", id="ragged"),
    pytest.param(
        "half_plus", [{"x": [1, 2, 3]}, {"X": [1, 2, 3]}], "item 1 has no field 'x', it has 'X'", id="no field"
    ),
    pytest.param(
        "half_plus", [{"x": [1, 2, 3]}, [1, 2, 3]], "item 1 is a list, others of the batch are objects", id="forms"
    ),
    pytest.param(
        "shapes",
        [[1, 2, 3, 4]],
        "item 0 is a list, expected an object with a field for each input",
        id="bare for two",
    ),
    pytest.param(
        "shapes",
        [{"a": [1, 2, 3, 4]}],
        "item 0 has no field 'b', it has 'a'; the model takes 'a' float32",
        id="one of two",
    ),
    pytest.param(
        "strings",
        ["a", 5],
        "item 1: input 'text' holds numbers; the model takes 'text' as string",
        id="number for text",
    ),
]


@pytest.mark.parametrize(("model", "items", "said"), REFUSED)
def test_an_item_that_does_not_fit_is_named(make_handler, model, items, said):
    handler = make_handler(model)
    with pytest.raises(ValueError, match="item") as refusal:
        handler.handle_batch(items)
    assert said in str(refusal.value)


def test_items_that_differ_where_the_model_takes_any_shape_are_named(make_handler):
    with pytest.raises(ValueError, match=r"item 2: input 'x' has the shape \[1\], item 0 has \[2\]"):
        make_handler("shapes", signature="total").handle_batch([[1, 2], [3, 4], [5]])


def test_a_batch_that_is_wrong_as_a_whole_keeps_the_clients_words(make_handler):
    with pytest.raises(InvalidInput, match="the cast would lose information"):
        make_handler("shapes", signature="divide", inputs={"x": "x"}).handle_batch([{"x": 1.5, "by": 1}])


CONFIGS = [
    pytest.param({"model": "half_plus"}, "handler.config.model: the built-in handler does not know it", id="unknown"),
    pytest.param({"modelName": "x"}, "Did you mean 'model_name'?", id="camel case"),
    pytest.param({"inputs": ["x"]}, "handler.config.inputs: found a list, expected an object", id="inputs a list"),
    pytest.param(
        {"inputs": {"x": 1}}, "handler.config.inputs.x: found a number, expected a field's name", id="field"
    ),
    pytest.param({"inputs": {"xx": "a"}}, "the model has no input 'xx', it takes 'x' float32", id="no such input"),
    pytest.param({"model_name": "half_plu"}, "Did you mean 'half_plus'?", id="no such model"),
    pytest.param({"model_version": 3}, "model 'half_plus' has no version 3", id="no such version"),
]


@pytest.mark.parametrize(("config", "said"), CONFIGS)
def test_a_config_that_does_not_fit_the_model_is_refused_at_start(make_handler, config, said):
    with pytest.raises(HandlerInvalid) as refusal:
        make_handler("half_plus", **config)
    assert said in str(refusal.value)


def test_several_models_and_none_named_are_refused_at_start(make_handler):
    with pytest.raises(HandlerInvalid, match="no model_name given, and the job's models are"):
        make_handler("half_plus", "strings")
