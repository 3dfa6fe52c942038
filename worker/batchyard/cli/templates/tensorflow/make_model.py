"""Make a tiny SavedModel in model/1, so that the job runs as it is. Put your own model there in its place.

It needs TensorFlow: pip install 'batchyard[local]'
"""

from pathlib import Path

import tensorflow as tf


class Rent(tf.Module):
    def __init__(self):
        super().__init__()
        self.weights = tf.Variable([[90.0], [8.5], [-1.5]])  # of rooms, area and age
        self.base = tf.Variable(150.0)

    # The names "features" and "rent" are the ones that a handler uses.
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="features")])
    def predict(self, features):
        return {"rent": tf.squeeze(features @ self.weights, axis=1) + self.base}


if __name__ == "__main__":
    model = Rent()
    folder = Path(__file__).resolve().parent / "model" / "1"
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.predict})
    print(f"wrote {folder}")
