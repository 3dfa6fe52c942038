"""Reads handwritten digits: what you write to run a model over your own items."""

import numpy as np


class Handler:
    def __init__(self, tensorflow_client, config):
        """Run once in each handler process: keep what every batch needs."""
        self.model = tensorflow_client
        self.digits = config["digits"]

    def handle_batch(self, payload):
        """Run once for each batch: `payload` is a list of items, lines of items.jsonl; return one result an item."""
        images = np.array([item["image"] for item in payload], dtype=np.float32)
        images = images.reshape(-1, 28, 28) / 255  # the model was trained on pixels from 0 to 1
        probabilities = self.model.predict({"image": images})["probabilities"]
        best = probabilities.argmax(axis=1)
        return [
            {"digit": self.digits[digit], "confidence": round(float(row[digit]), 4)}
            for digit, row in zip(best, probabilities, strict=True)
        ]

    def on_job_complete(self):
        """Run once, after every batch is settled: the place to send a message or start what comes next."""
        print("Every image has been read.")
