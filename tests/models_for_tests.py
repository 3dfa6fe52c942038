"""Makes the SavedModels that tests run against: `python tests/models_for_tests.py OUT_DIR`.

A script, so that the process that runs the tests never imports TensorFlow. Each folder in OUT_DIR is a model as a
user would have it:

    half_plus    versions 1, 2, 10: y = x / 2 + version, x float32 [?, 3]
    shapes       one SavedModel, signatures: serving_default (a, b -> sum, product, both float32 [?, 4]), total
                 (x float32 of unknown rank -> total), divide (x, by int32 -> quotient: fails on 0 in the graph)
    strings      one SavedModel: text [?] -> upper [?], length [?] int32, raw_bytes [?]
    echo         one SavedModel, one signature for each dtype: x of unknown rank -> y, the same
    slow         one SavedModel: x float32 [?] -> y, after about two seconds of work
    lookup       one SavedModel with a table that the init operation fills from a file: word [?] -> id [?] int64
    named        one SavedModel whose only signature is called `classify_flowers`
    two_named    one SavedModel with the signatures `left` and `right`, no default
    constants    only saved_model.pb: x float32 [?] -> y = 3 x
    keras        a Keras 3 export: keras_tensor float32 [?, 4] -> output_0 [?, 2], signatures serve, serving_default
    unrestored   a trained Keras 3 model saved by tf.saved_model.save, which a server's restore brings back in part
    tf1          as TensorFlow 1 wrote them: a variable, an asset and a table in collections
    meeting      as TensorFlow 1 wrote them: signature take (-> y) waits in the graph for what give (x -> done) brings
    sparse       as TensorFlow 1 wrote them: serving_default takes a sparse x (-> y dense)
    newer        half_plus's version 1, marked as saved by TensorFlow 99.0.0, with an operation nobody knows
    corrupt      1/saved_model.pb is cut in half
    lost         one SavedModel that needs variables, whose data file is cut short
    untagged     one SavedModel whose only graph is tagged `train`
"""

import os
import shutil
import sys
from pathlib import Path

DTYPES = (
    "float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128", "string",
)  # fmt: skip
"""The dtypes of `echo`, each the key of a signature."""


def make(out: Path) -> None:
    """Write every model below ``out``."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    simple = (_half_plus, _shapes, _strings, _echo, _slow, _lookup, _named, _constants)
    for build in (*simple, _keras, _unrestored, _tf1, _meeting, _sparse, _broken):
        build(out)


def _half_plus(out: Path) -> None:
    import tensorflow as tf

    for version in (1, 2, 10):
        module = tf.Module()
        module.bias = tf.Variable(float(version))
        spec = tf.TensorSpec([None, 3], tf.float32, name="x")
        call = tf.function(lambda x, module=module: {"y": x / 2 + module.bias}, input_signature=[spec])
        tf.saved_model.save(module, str(out / "half_plus" / str(version)), signatures=call)


def _shapes(out: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    pair = [tf.TensorSpec([None, 4], tf.float32, name=name) for name in "ab"]
    any_rank = tf.TensorSpec(None, tf.float32, name="x")
    integers = [tf.TensorSpec([None], tf.int32, name=name) for name in ("x", "by")]
    signatures = {
        "serving_default": tf.function(lambda a, b: {"sum": a + b, "product": a * b}, input_signature=pair),
        "total": tf.function(lambda x: {"total": tf.reduce_sum(x)}, input_signature=[any_rank]),
        "divide": tf.function(lambda x, by: {"quotient": x // by}, input_signature=integers),
    }
    tf.saved_model.save(module, str(out / "shapes"), signatures=signatures)


def _strings(out: Path) -> None:
    import tensorflow as tf

    def call(text):  # type: ignore[no-untyped-def]  # TensorFlow has no types
        upper = tf.strings.upper(text, encoding="utf-8")
        return {"upper": upper, "length": tf.strings.length(text), "raw_bytes": text}

    spec = tf.TensorSpec([None], tf.string, name="text")
    tf.saved_model.save(tf.Module(), str(out / "strings"), signatures=tf.function(call, input_signature=[spec]))


def _echo(out: Path) -> None:
    import tensorflow as tf

    signatures = {}
    for name in DTYPES:
        spec = tf.TensorSpec(None, tf.dtypes.as_dtype(name), name="x")
        signatures[name] = tf.function(lambda x: {"y": tf.identity(x)}, input_signature=[spec])
    tf.saved_model.save(tf.Module(), str(out / "echo"), signatures=signatures)


def _slow(out: Path) -> None:
    import tensorflow as tf

    def call(x):  # type: ignore[no-untyped-def]  # TensorFlow has no types
        until = tf.timestamp() + 2.0
        _, turns = tf.while_loop(
            lambda now, _: now < until, lambda _, turns: (tf.timestamp(), turns + 1), (tf.timestamp(), tf.constant(0))
        )
        return {"y": x + tf.cast(tf.minimum(turns, 0), tf.float32)}

    spec = tf.TensorSpec([None], tf.float32, name="x")
    tf.saved_model.save(tf.Module(), str(out / "slow"), signatures=tf.function(call, input_signature=[spec]))


def _lookup(out: Path) -> None:
    import tensorflow as tf

    words = out / "words.txt"
    words.write_text("zero\none\ntwo\n")

    class Lookup(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        def __init__(self) -> None:
            source = tf.lookup.TextFileInitializer(
                str(words),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            )
            self.table = tf.lookup.StaticHashTable(source, -1)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
        def call(self, word):  # type: ignore[no-untyped-def]
            return {"id": self.table.lookup(word)}

    module = Lookup()
    tf.saved_model.save(module, str(out / "lookup"), signatures=module.call)
    words.unlink()  # the SavedModel has its own copy


def _line_numbers(words: Path):  # type: ignore[no-untyped-def]  # TensorFlow has no types
    import tensorflow as tf

    line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
    return tf.lookup.TextFileInitializer(str(words), tf.string, line, tf.int64, number)


def _named(out: Path) -> None:
    import tensorflow as tf

    spec = tf.TensorSpec([None], tf.float32, name="x")
    twice = tf.function(lambda x: {"y": x * 2}, input_signature=[spec])
    thrice = tf.function(lambda x: {"y": x * 3}, input_signature=[spec])
    tf.saved_model.save(tf.Module(), str(out / "named"), signatures={"classify_flowers": twice})
    tf.saved_model.save(tf.Module(), str(out / "two_named"), signatures={"left": twice, "right": thrice})


def _constants(out: Path) -> None:
    """A graph of constants as converters write them: saved_model.pb alone, though it names a restore operation."""
    import tensorflow as tf

    spec = tf.TensorSpec([None], tf.float32, name="x")
    call = tf.function(lambda x: {"y": x * 3}, input_signature=[spec])
    tf.saved_model.save(tf.Module(), str(out / "constants"), signatures=call)
    for child in (out / "constants").iterdir():
        if child.is_dir():
            shutil.rmtree(child)
        elif child.name != "saved_model.pb":
            child.unlink()


def _keras(out: Path) -> None:
    import keras

    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2, kernel_initializer="ones", bias_initializer="ones")(inputs))
    model.export(str(out / "keras"), verbose=False)


def _unrestored(out: Path) -> None:
    import keras
    import tensorflow as tf

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile(optimizer="adam", loss="mse")
    model.fit(tf.ones((8, 4)), tf.ones((8, 2)), verbose=0)  # the optimizer's copies of the weights come into being
    spec = tf.TensorSpec([None, 4], tf.float32, name="x")
    call = tf.function(lambda x: {"y": model(x)}, input_signature=[spec])
    tf.saved_model.save(model, str(out / "unrestored"), signatures=call)


def _tf1(out: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    tf.get_logger().setLevel("ERROR")  # TensorFlow calls its own TF 1 functions deprecated
    words = out / "tf1_words.txt"
    words.write_text("cat\ndog\n")
    with tf.Graph().as_default(), v1.Session() as session:
        word = v1.placeholder(tf.string, [None], name="word")
        weight = v1.get_variable("weight", initializer=tf.constant(10, tf.int64), use_resource=False)
        ids = tf.lookup.StaticHashTable(_line_numbers(words), -1).lookup(word) * weight
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        v1.saved_model.simple_save(
            session, str(out / "tf1"), {"word": word}, {"id": ids}, legacy_init_op=v1.tables_initializer()
        )
    words.unlink()


def _meeting(out: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    build, define = v1.saved_model.build_tensor_info, v1.saved_model.build_signature_def
    with tf.Graph().as_default(), v1.Session() as session:
        queue = v1.FIFOQueue(100, [tf.float32], shapes=[[1]])
        x = v1.placeholder(tf.float32, [1], name="x")
        with tf.control_dependencies([queue.enqueue(x)]):
            done = tf.constant(True)
        give = define({"x": build(x)}, {"done": build(done)}, "tensorflow/serving/predict")
        take = define({}, {"y": build(queue.dequeue())}, "tensorflow/serving/predict")
        builder = v1.saved_model.Builder(str(out / "meeting"))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map={"give": give, "take": take})
        builder.save()


def _sparse(out: Path) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.sparse_placeholder(tf.float32, [None, 3], name="x")
        y = tf.sparse.to_dense(x)
        v1.saved_model.simple_save(session, str(out / "sparse"), {"x": x}, {"y": y})


def _broken(out: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    corrupt = out / "corrupt" / "1"
    shutil.copytree(out / "half_plus" / "1", corrupt)
    whole = (corrupt / "saved_model.pb").read_bytes()
    (corrupt / "saved_model.pb").write_bytes(whole[: len(whole) // 2])

    shutil.copytree(out / "half_plus" / "1", out / "lost")
    data = next((out / "lost" / "variables").glob("variables.data-*"))
    data.write_bytes(data.read_bytes()[:2])

    def changed(name: str, change) -> None:  # type: ignore[no-untyped-def]
        shutil.copytree(out / "half_plus" / "1", out / name)
        file = out / name / "saved_model.pb"
        model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
        change(model.meta_graphs[0])
        file.write_bytes(model.SerializeToString())

    def from_the_future(graph) -> None:  # type: ignore[no-untyped-def]
        graph.meta_info_def.tensorflow_version = "99.0.0"
        graph.graph_def.node.add(name="unheard_of", op="OpFromTheFuture")

    def for_training(graph) -> None:  # type: ignore[no-untyped-def]
        graph.meta_info_def.tags[:] = ["train"]

    changed("newer", from_the_future)
    changed("untagged", for_training)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
