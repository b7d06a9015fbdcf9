"""What cannot be run as given: what is wrong in one line, what to do in the next, nothing sent, nothing changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from contextlib import closing

import pytest
from commands import at, begun, called, prompts, wait_for
from servers import simulated

KEY = "fw-sentinel-0123456789"


@pytest.fixture(scope="module")
def untouched():
    """An endpoint to which nothing may be sent."""
    with simulated() as server:
        yield server
        assert server.totals()["requests"] == 0


@pytest.fixture
def refused(untouched, tmp_path, monkeypatch):
    """Run a command that must be refused in two lines, without a traceback and without a request."""
    monkeypatch.chdir(tmp_path)

    def refuse(code, *arguments):
        ended = called("run", *at(untouched.base_url, "out"), *arguments)
        assert ended.code == code, ended.err
        error, *between, last = ended.err.splitlines()
        assert error.startswith("error: ")
        assert all(line.startswith("  ") for line in between)
        assert last.startswith(f"exit {code}: nothing was sent. Next: ")
        assert len(last) > len(f"exit {code}: nothing was sent. Next: ")
        assert untouched.totals()["requests"] == 0
        return ended.err

    return refuse


@pytest.fixture
def good(tmp_path):
    """An input that is fine."""
    return prompts(tmp_path / "good.jsonl", 3)


def written(path, text):
    """A file with this text or these bytes."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# 1. The command line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nonsense"], "No such option '--nonsense'"),
        (["-c", "0"], "0 is not in the range x>=1"),
        (["-c", "many"], "'many' is not a whole number"),
        (["--rpm", "many"], "'many' is not a number"),
        (["-c", "-3"], "-3 is not in the range x>=1"),
        (["--rpm", "0"], "0.0 is not in the range x>0"),
        (["--rpm", "nan"], "`limits.requests_per_minute`"),
        (["-n", "0"], "0 is not in the range x>=1"),
        (["--retry-failed", "some"], "'some' is not one of 'retryable', 'all', 'none'"),
        (["--fail-threshold", "few"], "'few' is not a number of rows or a percentage"),
        (["--fail-threshold", "-1"], "'-1' is not a number of rows or a percentage"),
        (["--set", "limits.concurrency"], "not KEY=VALUE"),
        (["--set", "limits.concurency=3"], "did you mean `limits.concurrency`?"),
        (["--set", "temperature=3"], "did you mean `request.params.temperature`?"),
        (["--set", "limits.concurrency=x"], "--set: `limits.concurrency`: expected int, got str"),
        (["--set", "limits.concurrency=0"], "expected int >= 1"),
        (["--set", "timeouts.connect_s=.inf"], "is not a number to go by"),
        (["--set", "limits.concurrency: ["], "not KEY=VALUE"),
        (["--set", "limits.concurrency=["], "not YAML"),
        (["--set", "limits=3"], "`limits`: expected object, got int"),
        (["--set", "endpoint.base_url=ftp://x"], "is not an http(s) URL"),
        (["--set", "endpoint.base_url=http://[::1/v1"], "is not an http(s) URL"),
        (["--set", "endpoint.base_url=http://x:99999"], "is not an http(s) URL"),
        (["--set", "endpoint.base_url=http://user:pw@x/v1"], "may hold secrets"),
        (["other.jsonl"], "more than one input is named"),
        (["a.yaml", "b.yaml"], "more than one configuration is named"),
        (["--set", "limits.prompt_tokens_per_minute=0"], "limits.prompt_tokens_per_minute"),
        (["--set", "limits.generated_tokens_per_minute=0.5"], "cannot be meant"),
        (["--set", "limits.uncached_prompt_tokens_per_minute=1e13"], "cannot be meant"),
        (["--set", "limits.requests_per_minute=0.001"], "cannot be meant"),
        (["--rpm", "-1"], "--rpm"),
        (["--set", "request.stream=never", "--set", "request.stop_stream={max_chars: 3}"], "exclude each other"),
        (["--stream", "never", "--set", "request.measure_ttft=true"], "exclude each other"),
        (["--set", "request.stop_stream={pattern: '('}"], "missing )"),
        (["--set", "request.stop_stream={pattern: '(?=a)'}"], "RE2 syntax holds"),
        (["--set", "request.stop_stream={pattern: ''}"], "is empty"),
        (["--set", "request.stop_stream={}"], "has no rule"),
        (["--set", "request.stop_stream={max_chars: 0}"], "request.stop_stream.max_chars"),
        (["--set", "request.stop_stream={repetition: 1}"], "request.stop_stream.repetition"),
        (["--set", "request.stop_stream={patern: a}"], "did you mean `request.stop_stream.pattern`?"),
        (["--set", "endpoint.api=embeddings", "--stream", "always"], "embeddings have none"),
        (["--set", "endpoint.api=completions", "--set", "request.system=Be brief"], "no meaning under api completions"),
        (["--set", "request.validate={schema: no-such.json}"], "no-such.json"),
        (["--set", "endpoint.proxy=http://me:pass@host:1"], "would put a password into a file"),
        (["--set", "endpoint.api_key_env=NO_SUCH_KEY"], "the environment variable NO_SUCH_KEY is not set"),
    ],
)
def test_a_command_line_that_cannot_be_run(refused, good, arguments, said):
    """Options and values are refused before anything else happens, with what is allowed."""
    assert said in refused(2, good, *arguments)


def test_nothing_to_run(tmp_path, monkeypatch):
    """`batchrun run` alone says what to type."""
    monkeypatch.chdir(tmp_path)
    assert called("run").err == (
        "error: configuration: no input is named\nexit 2: nothing was sent. Next: "
        "batchrun run prompts.jsonl -m MODEL -o OUT, or `input: prompts.jsonl` in the configuration\n"
    )


def test_no_model(tmp_path, untouched):
    """A row without a model says how to name one."""
    source = prompts(tmp_path / "in.jsonl", 1)
    ended = called("run", source, "-o", tmp_path / "out", "--set", f"endpoint.base_url={untouched.base_url}")
    assert ended.code == 2
    assert "-m MODEL" in ended.last


@pytest.mark.parametrize("key", [f"{KEY}\nX-Evil: 1", "“quoted”", "two words"])
def test_a_key_that_cannot_be_one(refused, good, monkeypatch, key):
    """Its variable is named, the key is not."""
    monkeypatch.setenv("SOME_KEY", key)
    said = refused(2, good, "--set", "endpoint.api_key_env=SOME_KEY")
    assert "SOME_KEY does not hold a key" in said
    assert key not in said
    assert KEY not in said


# 2. The configuration file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("input: in.jsonl\nlimits: {concurrency: 3\nretry: 4\n", "c.yaml:3: not YAML"),
        ("limits:\n  concurrency: 3\n  concurrency: 4\n", "c.yaml:3: not YAML: the key 'concurrency' stands twice"),
        ("limits: {concurency: 3}\n", "c.yaml: unknown key `limits.concurency`"),
        ("limts: {concurrency: 3}\n", "did you mean `limits`?"),
        ("limits: {concurrency: three}\n", "c.yaml: `limits.concurrency`: expected int, got str"),
        ("limits: {concurrency: 3.5}\n", "c.yaml: `limits.concurrency`: expected int, got float"),
        ("retry: {max_attempts: 0}\n", "c.yaml: `retry.max_attempts`: expected int >= 1"),
        ("timeouts: {row_s: -1}\n", "c.yaml: `timeouts.row_s`: expected float > 0"),
        ("- input\n", "c.yaml: holds a list, not keys"),
        ("endpoint: {headers: {Authorization: x}}\n", "would put a secret into a file"),
        ("request: {params: {model: x}}\n", "`request.params.model` is not a sampling parameter"),
        ("limits: {max_cost_usd: 5 dollars}\n", "`limits.max_cost_usd`: expected float"),
        (b"input: \xff\xfe\n", "it is not UTF-8 text"),
    ],
)
def test_a_configuration_that_cannot_be_run(refused, good, tmp_path, text, said):
    """The file is named, the line or the key, and what would be right."""
    written(tmp_path / "c.yaml", text)
    assert said in refused(2, "c.yaml", good)


@pytest.mark.parametrize("name", ["missing.yaml", "folder.yaml", "bad.toml"])
def test_a_configuration_that_cannot_be_read(refused, good, tmp_path, name):
    """A missing file, a folder and bad TOML say so."""
    (tmp_path / "folder.yaml").mkdir()
    written(tmp_path / "bad.toml", "input = \n")
    assert name in refused(2, name, good)


# 3. The input


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "in.jsonl: is empty"),
        (b"\n\n", "in.jsonl: holds no rows"),
        (b'{"prompt": "x"}\n' * 16 + b'{"prompt": "x"\n', "in.jsonl:17: not JSON"),
        (b'{"prompt": "x"}\n{"prompt": "\xff"}\n', "in.jsonl:2: not UTF-8"),
        (b'{"custom_id": "a", "prompt": "x"}\n' * 2, "'a' at in.jsonl:1 and in.jsonl:2"),
        (b'{"question": "x"}\n', "in.jsonl:1: nothing to send: the row has only `question`"),
        (b'{"prompt": 3}\n', "in.jsonl:1: prompt is a number, not text"),
        (b"[1]\n", "in.jsonl:1: "),
    ],
)
def test_an_input_that_cannot_be_sent(refused, tmp_path, text, said):
    """Every row is looked at before the first request; file and line are named; no run folder is left behind."""
    written(tmp_path / "in.jsonl", text)
    assert said in refused(2, "in.jsonl")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("missing.jsonl", "missing.jsonl: there is no such file"),
        ("goood.jsonl", "did you mean good.jsonl?"),
        (".", "is a folder, not a file"),
        ("*.parquet", "matches no file"),
        ("good.txt", "the suffix does not say what it holds"),
    ],
)
def test_an_input_that_cannot_be_found(refused, good, source, said):
    """What was named is named again, with what to name instead."""
    good.with_suffix(".txt").write_text("x")
    assert said in refused(2, source)


def test_a_template_that_names_no_column(refused, good):
    """The nearest column is named."""
    assert "did you mean `prompt`?" in refused(2, good, "--set", "request.template='{{ promt }}'")


def test_byte_order_mark_and_windows_lines_are_fine(tmp_path):
    """What other programs leave in a text file is no reason to refuse it."""
    source = written(tmp_path / "in.jsonl", b'\xef\xbb\xbf{"prompt": "x"}\r\n\r\n{"prompt": "y"}\r\n')
    with simulated() as server:
        assert called("run", source, *at(server.base_url, tmp_path / "out")).code == 0
        assert [line["last_user"] for line in server.ledger()] == ["x", "y"]


def test_unusable_rows_can_be_left_out(tmp_path):
    """With --skip-invalid they become failures `input_invalid`, the others are sent, and the exit code is 3."""
    source = written(tmp_path / "in.jsonl", '{"prompt": "q0"}\n{broken\n{"prompt": "q2"}\n')
    with simulated() as server:
        ended = called("run", source, *at(server.base_url, tmp_path / "out"), "--skip-invalid")
        assert sorted(line["last_user"] for line in server.ledger()) == ["q0", "q2"]
    assert ended.code == 3
    assert ended.last.startswith("exit 3: 1 of 3 rows failed (1 input_invalid). Next: batchrun report ")


# 4. The run folder


def contents(folder):
    """What is in a folder, to compare it later."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "_lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_folder_of_something_else(refused, good, tmp_path):
    """It is not touched."""
    (tmp_path / "out").mkdir()
    written(tmp_path / "out/thesis.tex", "precious")
    assert "holds files that are not a run's: thesis.tex" in refused(7, good)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_a_file_where_the_folder_should_be(refused, good, tmp_path):
    """It is not overwritten."""
    written(tmp_path / "out", "precious")
    assert "is not a folder" in refused(7, good)
    assert (tmp_path / "out").read_text() == "precious"


def test_a_link_where_the_folder_should_be(refused, good, tmp_path):
    """Nobody else can have a run write elsewhere by laying a link; one that leads nowhere is named."""
    (tmp_path / "out").symlink_to("elsewhere")
    assert "out: cannot be read: No such file or directory" in refused(7, good)
    assert not (tmp_path / "elsewhere").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder as a run left it, its input beside it, and the endpoint it came from."""
    where = tmp_path_factory.mktemp("finished")
    with simulated() as server:
        command = ["run", prompts(where / "in.jsonl", 5), *at(server.base_url, where / "out")]
        assert called(*command).code == 0
        yield where, server, command


def again(finished, *more):
    """The same command with something more; nothing may be sent."""
    _, server, command = finished
    before = server.totals()
    ended = called(*command, *more)
    assert server.totals() == before
    return ended


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--set", "request.params.temperature=0.7"], "request.params.temperature: 0 -> 0.7"),
        (["-m", "simulated/other"], 'request.model: "simulated/small" -> "simulated/other"'),
        (["--set", "request.system=Be brief."], 'request.system: null -> "Be brief."'),
    ],
)
def test_another_request_does_not_fit(finished, more, said):
    """The key that changed is named with both values, and the folder stays as it is."""
    before = contents(finished[0] / "out")
    ended = again(finished, *more)
    assert ended.code == 7
    assert said in ended.err
    assert contents(finished[0] / "out") == before


def test_another_input_does_not_fit(finished):
    """A changed row is told apart from a changed number of rows."""
    source = finished[0] / "in.jsonl"
    lines = source.read_text().splitlines(keepends=True)
    try:
        source.write_text("".join([*lines[:-1], lines[-1].replace("q4", "q5")]))
        assert "rows: 4 kept, 0 new, 1 changed, 0 gone" in again(finished).err
        source.write_text("".join(lines[:-1]))
        ended = again(finished)
    finally:
        source.write_text("".join(lines))
    assert ended.code == 7
    assert "rows of the input: 5 -> 4" in ended.err


def test_what_does_not_shape_a_request_may_change(finished):
    """Concurrency, limits, retries and time-outs are free."""
    more = ["-c", "3", "--rpm", "100", "--set", "retry.max_attempts=2", "--set", "timeouts.row_s=60"]
    assert again(finished, *more).code == 0
    assert again(finished).code == 0


def damage(path, _folder):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def newer(path, _folder):
    path.write_bytes(json.dumps(json.loads(path.read_bytes()) | {"schema_version": 99}).encode())


@pytest.mark.parametrize(
    ("victim", "how", "said"),
    [
        ("results/part-*1.parquet", damage, "part-"),
        ("results/part-*1.parquet", lambda path, _: path.unlink(), "part-"),
        (
            "results/part-*1.parquet",
            lambda path, folder: path.rename(folder / "results/part-000009-000009.parquet"),
            "part-",
        ),
        ("_manifest/*1.json", damage, "does not match its checksum"),
        ("_manifest/*1.json", lambda path, _: path.unlink(), "is missing"),
        ("run.json", newer, "was written by a newer batchrun (schema 99"),
        ("run.json", lambda path, _: path.write_text("{"), "is damaged"),
    ],
)
def test_a_damaged_folder(finished, tmp_path, victim, how, said):
    """It stops the run before anything is sent or changed, and what is damaged is named."""
    folder = finished[0] / "out"
    shutil.copytree(folder, tmp_path / "whole")
    try:
        how(next(folder.glob(victim)), folder)
        before = contents(folder)
        ended = again(finished)
        assert contents(folder) == before
    finally:
        shutil.rmtree(folder)
        shutil.move(tmp_path / "whole", folder)
    assert ended.code == 7
    assert said in ended.err
    assert ended.last.startswith("exit 7: nothing was sent. Next: ")


def test_a_second_run_at_the_same_time(tmp_path):
    """It is refused with 5 and told who is there; the first one is not disturbed."""
    with simulated({"faults": [{"kind": "slow", "seconds": 1, "first": 1}]}) as server:
        command = ["run", prompts(tmp_path / "in.jsonl", 4), *at(server.base_url, tmp_path / "out"), "-c", "1"]
        with begun(*command) as first:
            wait_for(lambda: server.totals()["in_flight"], first)
            second = called(*command)
            assert first.wait(60) == 0
        assert server.totals()["requests"] == 4
    assert second.code == 5
    assert f"another run holds it (process {first.pid} on " in second.err


# 5. The endpoint


def test_a_port_nobody_listens_on(tmp_path):
    """The run ends with 8 once connect_s has passed."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        source = prompts(tmp_path / "in.jsonl", 3)
        ended = called("run", source, *at(url, tmp_path / "out", "--set", "timeouts.connect_s=0.5"))
    assert ended.code == 8
    assert "cannot connect" in ended.err
    assert ended.last.startswith("exit 8: the endpoint cannot be used; 0 of 3 rows have a result. Next: ")


def test_a_wrong_key(tmp_path, monkeypatch):
    """A 401 ends the run with 8 after no more than what was in flight; the key is in no file and in no line."""
    monkeypatch.setenv("SOME_KEY", KEY)
    with simulated(api_key="another") as server:
        more = ["--set", "endpoint.api_key_env=SOME_KEY", "-c", "4"]
        source = prompts(tmp_path / "in.jsonl", 50)
        ended = called("run", source, *at(server.base_url, tmp_path / "out", *more, "-v"))
        assert server.totals()["requests"] <= 4
    assert ended.code == 8
    assert "HTTP 401" in ended.err
    assert ended.last.startswith("exit 8: the endpoint cannot be used; 0 of 50 rows have a result. Next: check the key")
    assert ended.last.endswith("in SOME_KEY")
    assert KEY not in ended.err + ended.out
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    summary = json.loads((tmp_path / "out/report/summary.json").read_text())
    assert summary["run"]["sessions"][-1]["exit_code"] == 8


def test_a_key_that_nobody_sent(tmp_path):
    """Another host than Fireworks gets none until a variable is named: the 401 says how."""
    with simulated(api_key="another") as server:
        ended = called("run", prompts(tmp_path / "in.jsonl", 2), *at(server.base_url, tmp_path / "out"))
    assert ended.last.endswith("no key was sent: name the variable that holds it, --set endpoint.api_key_env=MY_KEY")


@pytest.mark.parametrize(("fault", "said"), [("redirect", "redirects are not followed"), ("missing", "HTTP 404")])
def test_an_endpoint_that_cannot_serve_any_row(tmp_path, fault, said):
    """A redirect is not followed; a model that is not there ends the run before the others are tried."""
    with simulated({"faults": [{"kind": "redirect"}] if fault == "redirect" else []}) as server:
        command = ["run", prompts(tmp_path / "in.jsonl", 20), *at(server.base_url, tmp_path / "out"), "-c", "2"]
        ended = called(*command, "-m", "missing" if fault == "missing" else "m")
        assert server.totals()["requests"] <= 2
        assert server.ledger() == []
    assert ended.code == 8
    assert said in ended.err


def test_an_endpoint_that_answers_with_a_page(tmp_path):
    """HTML with a 200 is no answer: the rows fail, and no markup reaches the terminal as it came."""
    with simulated({"faults": [{"kind": "html"}]}) as server:
        more = ["--set", "retry.max_attempts=1"]
        ended = called("run", prompts(tmp_path / "in.jsonl", 3), *at(server.base_url, tmp_path / "out", *more))
    assert ended.code == 3
    assert ended.last.startswith("exit 3: 3 of 3 rows failed (3 response_unreadable). Next: batchrun run ")
