import os


class Handler:
    def __init__(self, config):
        """Run once in each handler process: keep here what every batch needs (a model, a connection)."""
        self.long_word = config["longWord"]
        self.greeting = os.environ.get("GREETING", "")  # from .env, or from the environment

    def handle_batch(self, payload):
        """Run once for each batch: `payload` is a list of items; return a list with one result an item."""
        return [self.describe(item["text"]) for item in payload]

    def on_job_complete(self):
        """Run once, after every batch is settled. Leave it out when there is nothing to do."""
        print(self.greeting)

    def describe(self, text):
        words = text.split()
        return {"words": len(words), "longWords": [w for w in words if len(w) >= self.long_word]}
