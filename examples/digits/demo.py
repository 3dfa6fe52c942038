"""`make demo`: make the model and the images if they are not there, run the job, look at what came out."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
SHOWN = 8  # results printed beside the expected answers


def main():
    # TensorFlow greets with lines of its own otherwise, in the model server too
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    make_what_is_missing()
    job = [Path(sys.executable).with_name("batchyard"), "run", shown(HERE / "batchjob.yaml")]
    say(f"2. Run the job: batchyard run {job[-1]}")
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the job: it finishes its batches, then ends
    job.append("--restart")  # anew, also when an earlier demo was stopped halfway
    ended = subprocess.run(job, check=False).returncode
    if ended:
        return ended
    say(f"3. Look at the results, the JSON lines in {shown(RESULTS)}/parts")
    return 0 if show_results() else 1


def make_what_is_missing():
    if (HERE / "model" / "1" / "saved_model.pb").exists() and (HERE / "items.jsonl").exists():
        say(f"1. The model and the images are there already ({shown(HERE)}/model, items.jsonl)")
        return
    say("1. Train a small net on real handwritten digits (about ten seconds)")
    subprocess.run([sys.executable, HERE / "make_model.py"], check=True)


def show_results():
    expected = {item["id"]: item["expected"] for item in read_lines(HERE / "items.jsonl")}
    read = {
        line["key"]: line["result"] for part in sorted(RESULTS.glob("parts/*/*.jsonl")) for line in read_lines(part)
    }
    wrong = [key for key, result in read.items() if result["digit"] != expected[key]]
    few = [*list(read)[: SHOWN - 2], *wrong[:2]]
    print("   image        read  confidence  expected")
    for key in few:
        result = read[key]
        mark = "" if key not in wrong else "   misread"
        print(f"   {key}   {result['digit']}     {result['confidence']:6.1%}      {expected[key]}{mark}")
    print(f"   … {len(read):,} results for {len(expected):,} images")
    right = len(read) - len(wrong)
    print(f"   read correctly: {right:,} of {len(expected):,} ({right / len(expected):.1%})")
    return len(read) == len(expected)


def read_lines(path):
    with path.open() as file:
        return [json.loads(line) for line in file]


def say(text):
    print(f"\n{text}", flush=True)


def shown(path):
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


if __name__ == "__main__":
    sys.exit(main())
