"""Every refusal of the handler's contract, and what passes it."""

import functools
import re
import sys
from pathlib import Path

import pytest
from batchyard.handler import contract, load
from batchyard.handler.errors import HandlerInvalid


@pytest.fixture
def load_text(tmp_path, monkeypatch):
    """Write handler.py into a project of its own and import it from there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def load_it(text):
        (tmp_path / "handler.py").write_text(text)
        return load.load_module(tmp_path, "handler.py")

    yield load_it
    sys.modules.pop("handler", None)


def write(init="self, config", batch="self, payload, batch_id", more="", before=""):
    return f"""{before}
class Handler:
    def __init__({init}):
        pass

    def handle_batch({batch}):
        return None

{more}
"""


INIT_TENSORFLOW = "`def __init__(self, tensorflow_client, config, job_spec)` (job_spec may be left out)"
INIT_PYTHON = "`def __init__(self, config, job_spec)` (job_spec may be left out)"
BATCH = "`def handle_batch(self, payload, batch_id)` (payload and batch_id may be left out)"
COMPLETE = "`def on_job_complete(self)`"

SIGNATURES = [
    pytest.param(
        "tensorflow",
        write(init="self, config"),
        ["line 3", "lacks the argument tensorflow_client", "`def __init__(self, config)`", INIT_TENSORFLOW],
        id="tensorflow without tensorflow_client",
    ),
    pytest.param(
        "tensorflow",
        write(init="self, tensorflow_client"),
        ["lacks the argument config", "`def __init__(self, tensorflow_client)`", INIT_TENSORFLOW],
        id="without config",
    ),
    pytest.param(
        "tensorflow",
        write(init="self"),
        ["lacks the arguments tensorflow_client and config", "`def __init__(self)`"],
        id="without any argument",
    ),
    pytest.param(
        "python",
        write(init="self, tensorflow_client, config"),
        ["takes tensorflow_client, but handler.type python has none", "type: tensorflow", INIT_PYTHON],
        id="python with tensorflow_client",
    ),
    pytest.param(
        "python",
        write(init="self, cfg"),
        ["takes cfg, which is not one of its arguments", "did you mean 'config'?", "`def __init__(self, cfg)`"],
        id="unknown argument with a near name",
    ),
    pytest.param(
        "tensorflow",
        write(init="self, client, config"),
        ["takes client, which", "did you mean 'tensorflow_client'?"],
        id="client for tensorflow_client",
    ),
    pytest.param(
        "python",
        write(init="self, config, batch_id"),
        ["takes batch_id", "batch_id is given to handle_batch"],
        id="handle_batch's argument in __init__",
    ),
    pytest.param(
        "python",
        write(batch="self, payload, config"),
        ["takes config", "config is given to __init__", "keep it there as self.config", BATCH],
        id="__init__'s argument in handle_batch",
    ),
    pytest.param(
        "python",
        write(batch="self, items"),
        ["line 6", "takes items, which is not one of its arguments", "`def handle_batch(self, items)`", BATCH],
        id="unknown argument of handle_batch",
    ),
    pytest.param("python", write(init="self, *args"), ["takes *args", "passed by name"], id="*args in __init__"),
    pytest.param("python", write(batch="self, **kwargs"), ["takes **kwargs", BATCH], id="**kwargs in handle_batch"),
    pytest.param("python", write(batch="*args"), ["takes *args"], id="only *args"),
    pytest.param(
        "python",
        write(batch="self, payload, /"),
        ["takes payload by position only", "remove the `/`"],
        id="positional-only",
    ),
    pytest.param("python", write(batch="payload"), ["has no self", "`def handle_batch(payload)`"], id="no self"),
    pytest.param("python", write(batch=""), ["has no self", "`def handle_batch()`"], id="no argument at all"),
    pytest.param("python", write(init="*, config"), ["has no self"], id="keyword-only where self should be"),
    pytest.param(
        "python",
        write(more="    def on_job_complete(self, results): pass"),
        ["on_job_complete takes results", COMPLETE],
        id="on_job_complete with an argument",
    ),
    pytest.param(
        "python",
        write(more="    def on_job_complete(self, job_spec): pass"),
        ["job_spec is given to __init__"],
        id="on_job_complete with job_spec",
    ),
    pytest.param(
        "python",
        write(more="    async def handle_batch(self, payload): return payload"),
        ["is `async def`", "asyncio.run"],
        id="async handle_batch",
    ),
    pytest.param(
        "python",
        write(more="    async def handle_batch(self, payload): yield payload"),
        ["`async def` with yield"],
        id="async generator",
    ),
    pytest.param(
        "python",
        write(more="    def handle_batch(self, payload):\n        for p in payload: yield p"),
        ["has a yield", "return a list"],
        id="generator",
    ),
    pytest.param(
        "python", write(more="    async def __init__(self, config): pass"), ["is `async def`"], id="async init"
    ),
    pytest.param(
        "python",
        write(more="    async def on_job_complete(self): pass"),
        ["on_job_complete is `async def`", COMPLETE],
        id="async on_job_complete",
    ),
    pytest.param(
        "python",
        write(more="    handle_batch = 5"),
        ["line 2", "Handler.handle_batch is of type int, expected a method", BATCH],
        id="a method that is a number",
    ),
    pytest.param(
        "python",
        write(more="    on_job_complete = None"),
        ["Handler.on_job_complete is of type NoneType"],
        id="on_job_complete set to None",
    ),
    pytest.param(
        "python",
        write(more="    @property\n    def handle_batch(self): return print"),
        ["Handler.handle_batch is of type property"],
        id="a property",
    ),
    pytest.param(
        "python",
        write(more="    @classmethod\n    def __init__(cls, config): pass"),
        ["Handler.__init__ is a classmethod"],
        id="__init__ as a class method",
    ),
    pytest.param(
        "python",
        write(more="    handle_batch = type"),
        ["signature of Handler.handle_batch cannot be read"],
        id="a method without a readable signature",
    ),
    pytest.param(
        "python",
        write(
            before="def timed(f):\n    def inner(*args, **kwargs): return f(*args, **kwargs)\n    return inner",
            more="    @timed\n    def handle_batch(self, payload): return payload",
        ),
        ["takes *args", "a decorator put inner in its place", "functools.wraps"],
        id="a decorator without wraps",
    ),
    pytest.param(
        "python",
        write(
            before="import functools\ndef one(f):\n    @functools.wraps(f)\n"
            "    def inner(self, x): return f(self, x)\n    return inner",
            more="    @one\n    def handle_batch(self, payload): return payload",
        ),
        ["has a decorator that takes (self, x)", "does not let the arguments through by name"],
        id="a decorator that shows another signature than it has",
    ),
    pytest.param(
        "python",
        "class Handler:\n    def handle_batch(self, payload): pass",
        ["line 1", "no method __init__", INIT_PYTHON],
        id="no __init__",
    ),
    pytest.param(
        "python",
        "class Handler:\n    def __init__(self, config): pass",
        ["no method handle_batch", BATCH],
        id="no handle_batch",
    ),
    pytest.param(
        "python",
        "class Handler:\n    def __init__(self, config): pass\n    def handle_batches(self, payload): pass",
        ["no method handle_batch", "Did you mean 'handle_batches'? Rename it to handle_batch."],
        id="handle_batch misspelt",
    ),
    pytest.param(
        "python",
        "class Handler:\n    def __init__(self, config): pass\ndef handle_batch(self, payload): pass",
        ["handle_batch is a function of the module there: indent it into the class"],
        id="handle_batch outside of the class",
    ),
    pytest.param("python", "x = 1", ["found no class Handler, expected `class Handler:`"], id="no class at all"),
    pytest.param(
        "python",
        "class MyThing:\n    def __init__(self, config): pass\n    def handle_batch(self, payload): pass",
        ["no class Handler", "'MyThing' (handler.py, line 1)", "Rename it to Handler"],
        id="a handler of another name",
    ),
    pytest.param("python", "class handler: pass", ["call it 'handler'"], id="Handler in lower case"),
    pytest.param("python", "class Cat: pass\nclass Dog: pass", ["Its classes are: Cat, Dog"], id="unlike names"),
    pytest.param(
        "python",
        "def handle_batch(payload): pass",
        ["handle_batch is a function of the module there: make it a method"],
        id="a function in place of a class",
    ),
    pytest.param("python", "def Handler(config): pass", ["Handler is a function, expected a class"], id="a function"),
    pytest.param("python", "Handler = 7", ["Handler is a value of type int, expected a class"], id="a value"),
    pytest.param(
        "python",
        "import abc\nclass Handler(abc.ABC):\n    def __init__(self, config): pass\n"
        "    @abc.abstractmethod\n    def handle_batch(self, payload): pass",
        ["Handler is abstract, expected it to define handle_batch"],
        id="abstract",
    ),
]


@pytest.mark.parametrize(("kind", "text", "said"), SIGNATURES)
def test_a_handler_that_breaks_the_contract_is_refused_with_place_found_and_expected(load_text, kind, text, said):
    module = load_text(text)
    with pytest.raises(HandlerInvalid) as refusal:
        contract.check(module, kind)
    message = str(refusal.value)
    assert message.startswith("handler.py")
    for part in said:
        assert part in message
    assert "\n" not in message
    assert refusal.value.reason == "HandlerInvalid"


DECORATED = """
import functools
def traced(f):
    @functools.wraps(f)
    def inner(*args, **kwargs):
        return f(*args, **kwargs)
    return inner
"""

PASSING = [
    pytest.param("python", write(), ("config",), ("payload", "batch_id"), id="as in the docs"),
    pytest.param(
        "tensorflow",
        write(init="self, job_spec, config, tensorflow_client", batch="self, batch_id, payload"),
        ("tensorflow_client", "config", "job_spec"),
        ("payload", "batch_id"),
        id="any order",
    ),
    pytest.param(
        "tensorflow",
        write(init="self, *, tensorflow_client, config", batch="self, *, payload"),
        ("tensorflow_client", "config"),
        ("payload",),
        id="keyword-only",
    ),
    pytest.param("python", write(batch="self, batch_id"), ("config",), ("batch_id",), id="batch_id alone"),
    pytest.param("python", write(batch="self"), ("config",), (), id="no argument of handle_batch"),
    pytest.param(
        "python",
        write(init="this, config, retries=3"),
        ("config",),
        ("payload", "batch_id"),
        id="an unknown argument with a default, another name for self",
    ),
    pytest.param(
        "python",
        write(init="self, config, tensorflow_client=None"),
        ("config",),
        ("payload", "batch_id"),
        id="python with tensorflow_client that has a default",
    ),
    pytest.param(
        "python", write(init="self, /, config=None"), ("config",), ("payload", "batch_id"), id="self by position only"
    ),
    pytest.param(
        "python",
        write(before=DECORATED, more="    @traced\n    def handle_batch(self, payload): return payload"),
        ("config",),
        ("payload",),
        id="decorated with wraps",
    ),
    pytest.param(
        "python",
        write(before="class Base:\n    pass").replace("class Handler", "class Parent")
        + "\nclass Handler(Parent):\n    def __init__(self, config, job_spec): super().__init__(config)",
        ("config", "job_spec"),
        ("payload", "batch_id"),
        id="inherited",
    ),
    pytest.param(
        "python",
        "import dataclasses\n@dataclasses.dataclass\nclass Handler:\n    config: dict\n"
        "    def handle_batch(self, payload): return payload",
        ("config",),
        ("payload",),
        id="dataclass",
    ),
    pytest.param(
        "python",
        write(more="    @staticmethod\n    def handle_batch(payload): return payload"),
        ("config",),
        ("payload",),
        id="static method",
    ),
    pytest.param(
        "python",
        write(more="    @classmethod\n    def handle_batch(cls, payload): return payload"),
        ("config",),
        ("payload",),
        id="class method",
    ),
    pytest.param(
        "python",
        write(more="    handle_batch = lambda self, payload: payload"),
        ("config",),
        ("payload",),
        id="lambda",
    ),
    pytest.param(
        "python",
        "import functools\n"
        + write(
            more="    def run(self, payload, factor): return payload\n"
            "    handle_batch = functools.partialmethod(run, factor=2)"
        ),
        ("config",),
        ("payload",),
        id="partial method",
    ),
]


@pytest.mark.parametrize(("kind", "text", "init", "batch"), PASSING)
def test_a_handler_that_keeps_the_contract_is_given_what_it_asks_for(load_text, kind, text, init, batch):
    spec = contract.check(load_text(text), kind)
    assert spec.init_arguments == init
    assert spec.batch_arguments == batch
    handler = contract.construct(spec, tensorflow_client=object(), config={"a": 1}, job_spec={"job_id": "j"})
    result = contract.call_batch(spec, handler, [1, 2], "id-1")
    assert result in (None, [1, 2])


RECORDING = """
class Handler:
    def __init__(self, config, job_spec=None):
        self.config, self.job_spec, self.done = config, job_spec, 0
    def handle_batch(self, {arguments}):
        return dict(payload={payload}, batch_id={batch_id})
    def on_job_complete(self):
        self.done += 1
"""


@pytest.mark.parametrize(
    ("arguments", "payload", "batch_id"),
    [
        pytest.param("payload, batch_id", "payload", "batch_id", id="both"),
        pytest.param("batch_id, payload", "payload", "batch_id", id="both the other way round"),
        pytest.param("payload", "payload", "None", id="payload"),
        pytest.param("batch_id", "None", "batch_id", id="batch_id"),
        pytest.param("x=None", "x", "x", id="neither"),
    ],
)
def test_a_bound_handler_is_called_with_the_arguments_it_takes(load_text, arguments, payload, batch_id):
    spec = contract.check(
        load_text(RECORDING.format(arguments=arguments, payload=payload, batch_id=batch_id)), "python"
    )
    call = spec.bind(contract.construct(spec, config={}))
    expected = {
        "payload": [1] if payload == "payload" else None,
        "batch_id": "id-1" if batch_id == "batch_id" else None,
    }
    assert call([1], "id-1") == expected


def test_config_and_job_spec_are_copies_that_a_handler_may_change(load_text):
    spec = contract.check(load_text(RECORDING.format(arguments="payload", payload="0", batch_id="0")), "python")
    config, job_spec = {"list": [1], "map": {"a": 1}}, {"config": {"list": [1]}}
    handler = contract.construct(spec, config=config, job_spec=job_spec)
    handler.config["list"].append(2)
    handler.config["map"]["a"] = 2
    handler.job_spec["config"]["list"].append(2)
    assert (config, job_spec) == ({"list": [1], "map": {"a": 1}}, {"config": {"list": [1]}})


def test_a_handler_with_job_spec_waits_for_it_and_one_without_does_not(load_text):
    assert contract.check(load_text(write(init="self, config, job_spec")), "python").wants_job_spec
    assert not contract.check(load_text(write(init="self, config")), "python").wants_job_spec


def test_on_job_complete_is_called_where_there_is_one(load_text):
    spec = contract.check(load_text(RECORDING.format(arguments="payload", payload="0", batch_id="0")), "python")
    handler = contract.construct(spec, config={})
    contract.call_complete(spec, handler)
    assert spec.has_on_job_complete
    assert handler.done == 1
    without = contract.check(load_text(write()), "python")
    assert not without.has_on_job_complete
    contract.call_complete(without, contract.construct(without, config={}))


@pytest.mark.parametrize("method", ["handle_batch", "on_job_complete"])
def test_a_coroutine_that_nobody_awaits_is_an_error_not_a_result(load_text, method):
    text = write(
        more="    async def later(self): return 1\n    def METHOD(self): return self.later()".replace(
            "METHOD", method
        )
    )
    spec = contract.check(load_text(text), "python")
    handler = contract.construct(spec, config={})
    call = functools.partial(contract.call_batch, payload=[1], batch_id="id-1")
    if method == "on_job_complete":
        call = contract.call_complete
    with pytest.raises(HandlerInvalid, match=re.escape("coroutine of Handler.later, which has not run")):
        call(spec, handler)


def test_an_error_of_the_users_constructor_is_passed_on_as_it_is(load_text):
    text = "class Handler:\n    def __init__(self, config): self.x = config['x']\n    def handle_batch(self): pass"
    spec = contract.check(load_text(text), "python")
    with pytest.raises(KeyError, match="x"):
        contract.construct(spec, config={})


def test_a_long_default_and_annotations_are_left_out_of_the_message(load_text):
    text = write(init=f"self, config: dict, table={list(range(1000))}, cfg: 'Wrong' = 1, *, bad")
    with pytest.raises(HandlerInvalid) as refusal:
        contract.check(load_text(text), "python")
    assert "`def __init__(self, config, table=…, cfg=…, *, bad)`" in str(refusal.value)


def test_a_method_inherited_from_another_file_is_named_with_that_file(load_text, tmp_path):
    (tmp_path / "parent_of_handler.py").write_text("\n\nclass Parent:\n    def handle_batch(self, rows): pass\n")
    text = "from parent_of_handler import Parent\nclass Handler(Parent):\n    def __init__(self, config): pass"
    module = load_text(text)
    with pytest.raises(HandlerInvalid, match=r"^parent_of_handler\.py, line 4: Handler\.handle_batch takes rows"):
        contract.check(module, "python")
    assert Path(sys.modules.pop("parent_of_handler").__file__).parent == tmp_path


def test_a_project_reached_by_a_link_is_named_without_its_path(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "handler.py").write_text(write(batch="self, rows"))
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "link")
    module = load.load_module(tmp_path / "link", "handler.py")
    with pytest.raises(HandlerInvalid, match=r"^handler\.py, line 6"):
        contract.check(module, "python")
    del sys.modules["handler"]
