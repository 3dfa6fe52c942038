"""The command itself: help, version, what is refused and in which words, dry runs, starting projects."""

import pytest


def test_the_version_and_the_help_answer(batchyard):
    assert batchyard("--version").out.startswith("batchyard, version ")
    for command in ([], ["run"], ["validate"], ["init"], ["serve"]):
        ran = batchyard(*command, "--help")
        assert ran.code == 0
        assert "Usage: batchyard" in ran.out
    assert "Exit codes:" in batchyard("run", "-h").out


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "m.yaml", "--wrokers=2"],
        ["rnu"],
        ["run", "m.yaml", "--workers", "0"],
        ["init", "--type", "R"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_2_and_how_to_write_it(batchyard, arguments):
    ran = batchyard(*arguments)
    assert ran.code == 2
    assert "Usage: batchyard" in ran.err
    assert "Error: " in ran.err


def test_validate_says_ok_and_reads_the_manifest_alone(job, batchyard):
    job.write(None)  # there is no handler.py
    ran = batchyard("validate", job.manifest)
    assert (ran.code, ran.out) == (0, "ok: job\n")


def test_validate_and_run_refuse_a_manifest_in_the_same_words(job, batchyard):
    job.write(wrokers=2, handler={"type": "pyton", "path": "handler.py"})
    validated, ran = batchyard("validate", job.manifest), job.run()
    assert validated.code == ran.code == 2
    assert validated.err == ran.err
    assert "Did you mean 'workers'?" in ran.err
    assert "Did you mean 'python'?" in ran.err
    assert "Traceback" not in ran.err


def test_validate_checks_what_set_sets(job, batchyard):
    ran = batchyard("validate", job.write().manifest, "--set", "spec.input.batchSize=0")
    assert ran.code == 2
    assert "--set spec.input.batchSize=0" in ran.err


def test_a_refusal_is_told_in_json_too(job):
    ran = job.write(wrokers=2).run("--json")
    assert ran.code == 2
    assert ran.json["exitCode"] == 2
    assert ran.json["reason"] == "ManifestInvalid"
    assert "wrokers" in ran.json["message"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param(
            {"handler": {"type": "python", "path": "handlre.py"}}, "Did you mean 'handler.py'?", id="handler"
        ),
        pytest.param({"input": {"files": {"paths": ["imges"]}}}, "images", id="input"),
        pytest.param(
            {"handler": {"type": "python", "path": "handler.py", "project": {"configMap": "code"}}},
            "spec.handler.project.configMap",
            id="ConfigMap",
        ),
    ],
)
def test_what_a_manifest_names_and_is_not_there_is_refused_before_anything_is_made(job, spec, words):
    (job.folder / "images").mkdir()
    ran = job.write(**spec).run()
    assert ran.code == 2
    assert words in ran.err
    assert not (job.folder / ".batchyard").exists()


def test_fields_of_a_cluster_are_ignored_with_one_note(job):
    job.write(pod={"labels": {"team": "x"}}, ttlSecondsAfterFinished=5)
    ran = job.run()
    assert ran.code == 0
    assert ran.err.count("note: ") == 1
    assert "spec.pod, spec.ttlSecondsAfterFinished: ignored here" in ran.err


def test_a_dry_run_counts_and_constructs_the_handler_and_runs_no_batch(job):
    job.write(input={"items": list(range(10)), "batchSize": 4}, workers=2)
    ran = job.run("--dry-run")
    assert ran.code == 0, ran.err
    assert "10 items" in ran.out
    assert "3 of 4 items, the last one of 2" in ran.out
    assert "handler   ok: handler.py" in ran.out
    assert job.lines("started") == []
    assert not (job.folder / ".batchyard").exists()


def test_a_dry_run_in_json_holds_the_numbers(job):
    told = job.write(input={"items": list(range(10)), "batchSize": 4}).run_json("--dry-run")
    assert (told["items"], told["batches"], told["batchSize"], told["ok"]) == (10, 3, 4, True)


def test_a_dry_run_tells_a_wrong_handler_and_ends_with_1(job):
    ran = job.write("class Handler:\n    def __init__(self, konfig): pass\n").run("--dry-run")
    assert ran.code == 1
    assert "konfig" in ran.out


def test_a_dry_run_tells_malformed_lines(job):
    (job.folder / "items.jsonl").write_text("1\n[2\n3\n")
    ran = job.write(input={"delimitedFiles": {"paths": ["items.jsonl"]}}).run("--dry-run")
    assert ran.code == 1
    assert "items.jsonl:2" in ran.out


def test_init_writes_a_project_that_runs(batchyard):
    made = batchyard("init", "project")
    assert made.code == 0
    ran = batchyard("run", "project/batchjob.yaml")
    assert ran.code == 0, ran.out + ran.err
    assert "Succeeded" in ran.out


def test_init_overwrites_nothing(batchyard, tmp_path):
    (tmp_path / "handler.py").write_text("mine")
    ran = batchyard("init")
    assert ran.code == 2
    assert "handler.py: there already; nothing was written" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["handler.py"]
    assert (tmp_path / "handler.py").read_text() == "mine"


def test_serve_passes_its_flags_to_the_server(batchyard):
    ran = batchyard("serve", "--model_nmae=x")
    assert ran.code == 2
    assert "Did you mean --model_name?" in ran.err
