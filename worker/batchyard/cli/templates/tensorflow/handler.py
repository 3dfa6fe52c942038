import os

import numpy as np


class Handler:
    def __init__(self, tensorflow_client, config):
        """Run once in each handler process: keep here what every batch needs."""
        self.model = tensorflow_client
        self.currency = config["currency"]
        self.greeting = os.environ.get("GREETING", "")  # from .env, or from the environment

    def handle_batch(self, payload):
        """Run once for each batch: `payload` is a list of items; return a list with one result an item."""
        features = np.array([[item["rooms"], item["area"], item["age"]] for item in payload], dtype=np.float32)
        rents = self.model.predict({"features": features})["rent"]
        return [{"rent": round(float(rent)), "currency": self.currency} for rent in rents]

    def on_job_complete(self):
        """Run once, after every batch is settled. Leave it out when there is nothing to do."""
        print(self.greeting)
