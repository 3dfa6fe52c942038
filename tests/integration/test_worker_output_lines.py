"""What user code prints arrives in the worker's log, each line with its batch and attempt."""

HANDLER = """
import logging, os, sys, time

class Handler:
    def __init__(self, config):
        print("constructing")
        logging.getLogger("mine").warning("careful")

    def handle_batch(self, payload):
        name = payload[0]
        if name == "print":
            print("to stdout")
            print("to stderr", file=sys.stderr)
            sys.stdout.write("first half, ")
            sys.stdout.write("second half\\nunfinished")
        if name == "unicode":
            print("tree \\N{DECIDUOUS TREE} half \\udc80")
        if name == "log":
            logging.getLogger("mine").info("two\\nlines")
            logging.getLogger("mine").debug("not wanted")
            try:
                1 / 0
            except ZeroDivisionError:
                logging.exception("caught")
        if name == "raw":
            os.write(1, b"raw out\\n")
            os.write(2, b"raw \\xff err\\n")
            os.system("echo from a program")
            os.write(1, b"\\x1e\\xc2\\xb2,1,\\x1fodd\\n")
        if name == "number":
            time.sleep(0.03)
            os.write(1, f"number {payload[1]}\\n".encode())
        if name == "long":
            print("x" * 300_000)
        if name == "threads":
            for number in range(300):
                print(payload[1], number)
                time.sleep(0)
        if name == "die":
            print("last words")
            sys.stdout.write("and no newline")
            sys.stdout.flush()
            os._exit(9)
"""


def lines_of(ended, batch):
    return [
        (line["stream"], line["level"], line["message"], line["attempt"])
        for line in ended.log
        if line.get("batch") == batch and "stream" in line
    ]


def run(make_job, *items, **settings):
    job = make_job(HANDLER, [list(items)], retry={"max_attempts": 1}, **settings)
    ended = job.run()
    assert ended.code == 0
    return job, ended


def test_print_and_stderr_and_unfinished_lines(make_job):
    _, ended = run(make_job, "print")
    assert sorted(lines_of(ended, 0)) == [
        ("stderr", "ERROR", "to stderr", 1),
        ("stdout", "INFO", "first half, second half", 1),
        ("stdout", "INFO", "to stdout", 1),
        ("stdout", "INFO", "unfinished", 1),
    ]


def test_lines_of_the_constructor_belong_to_no_batch(make_job):
    _, ended = run(make_job, "print")
    found = [(line["message"], line["level"], line.get("batch")) for line in ended.log if "stream" in line]
    assert ("constructing", "INFO", None) in found
    assert ("mine: careful", "WARNING", None) in found


def test_unicode_and_what_is_none(make_job):
    _, ended = run(make_job, "unicode")
    assert [line[2] for line in lines_of(ended, 0)] == ["tree \N{DECIDUOUS TREE} half \\udc80"]


def test_log_records_keep_their_level_and_all_their_lines(make_job):
    _, ended = run(make_job, "log")
    found = [(level, message) for _, level, message, _ in lines_of(ended, 0)]
    assert found[:3] == [("INFO", "mine: two"), ("INFO", "  lines"), ("ERROR", "root: caught")]
    assert found[-1] == ("ERROR", "  ZeroDivisionError: division by zero")


def test_log_level_is_the_handlers(make_job):
    _, ended = run(make_job, "log", handler={"log_level": "DEBUG"})
    assert ("DEBUG", "mine: not wanted") in [(level, message) for _, level, message, _ in lines_of(ended, 0)]


def test_what_is_written_to_the_descriptors_belongs_to_the_batch_that_runs(make_job):
    _, ended = run(make_job, "raw")
    assert sorted(message for _, _, message, _ in lines_of(ended, 0)) == [
        "\x1e²,1,\x1fodd",
        "from a program",
        "raw out",
        "raw � err",
    ]


def test_bare_lines_belong_to_their_own_batch(make_job):
    job = make_job(HANDLER, [["number", i] for i in range(15)])
    ended = job.run()
    assert ended.code == 0
    found = [(line["batch"], line["message"]) for line in ended.log if line["message"].startswith("number")]
    assert found == [(i, f"number {i}") for i in range(15)]


def test_a_very_long_line_arrives_whole_in_pieces(make_job):
    _, ended = run(make_job, "long")
    assert "".join(message for _, _, message, _ in lines_of(ended, 0)) == "x" * 300_000


def test_last_words_are_kept_with_the_failure(make_job):
    job, ended = run(make_job, "die")
    assert [message for _, _, message, _ in lines_of(ended, 0)] == ["last words", "and no newline"]
    assert job.failed()[0].failure.detail.endswith("last words\nand no newline")


def test_lines_of_threads_keep_their_own_batch(make_job):
    job = make_job(HANDLER, [["threads", i] for i in range(6)], threads=3)
    ended = job.run()
    assert ended.code == 0
    for batch in range(6):
        expected = [("stdout", "INFO", f"{batch} {number}", 1) for number in range(300)]
        assert lines_of(ended, batch) == expected


def test_plain_text_for_a_terminal(make_job):
    job = make_job(HANDLER, [["print"]], log_format="text")
    text = [line["message"] for line in job.run().log]
    assert any(line.endswith("worker-0 batch 0 | first half, second half") for line in text)
    assert any(line.endswith("worker-0 batch 0 ERROR | to stderr") for line in text)
