"""Rows of a program in, answers out: batchrun.map and batchrun.amap."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from commands import asked, at, called
from servers import ROOT, embedded_at_once, simulated
from waiting import until

import batchrun
from batchrun.answers import COLUMNS
from batchrun.errors import ConfigError, EndpointUnusable, FolderUnusable, PromptError, RowsFailed
from batchrun.prompts.given import lines_of
from batchrun.store.snapshot import Snapshot


def keys(server, **more):
    """A configuration that sends to a server."""
    return {"endpoint": {"base_url": server.base_url}, "request": {"model": "simulated/small"}, **more}


def said(answer):
    """The prompt that an answer of the simulated endpoint repeats."""
    return answer.partition('"')[2].partition('"')[0]


@pytest.fixture(scope="module")
def server():
    with simulated() as endpoint:
        yield endpoint


@pytest.fixture
def config(server, tmp_path):
    """Where to, and a run folder."""
    return keys(server, output=str(tmp_path / "out"))


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary files go."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


class TestFrames:
    """A frame in, a frame out."""

    @pytest.mark.parametrize("index", [["x", "y", "z"], [7, 7, 3], pd.MultiIndex.from_tuples([(0, 1), (0, 2), (1, 1)])])
    def test_the_index_is_the_callers(self, config, index):
        """Whatever it is, doubles too, row by row, so that columns can be assigned from one to the other."""
        frame = pd.DataFrame({"prompt": ["q0", "q1", "q2"]}, index=index)
        frame["answer"] = batchrun.map(frame, config)["content"]
        assert frame["answer"].map(said).tolist() == ["q0", "q1", "q2"]

    def test_the_columns(self, config):
        """All of them, whatever is in them, with counts as counts."""
        answers = batchrun.map(pd.DataFrame({"prompt": ["q0", None]}), config)
        assert tuple(answers.columns) == COLUMNS
        assert answers["finish_reason"].tolist()[0] == "stop"
        assert answers["cost_usd"][0] > 0
        assert [str(answers[name].dtype) for name in ("prompt_tokens", "attempts")] == ["Int64", "Int32"]

    def test_columns_fill_a_template(self, config):
        """Their names are those of the columns."""
        frame = pd.DataFrame({"word": ["tree", "house"], "into": ["French", "Greek"]})
        answers = batchrun.map(frame, config, template="{{ word }} in {{ into }}")
        assert answers["content"].map(said).tolist() == ["tree in French", "house in Greek"]

    def test_columns_are_keys_of_a_row(self, config):
        """As they are those of a line of an input file."""
        messages = [[{"role": "user", "content": word}] for word in ("one", "two")]
        frame = pd.DataFrame({"custom_id": ["a", "b"], "messages": messages})
        answers = batchrun.map(frame, config)
        assert answers["content"].map(said).tolist() == ["one", "two"]
        assert answers["custom_id"].tolist() == ["a", "b"]

    def test_what_is_missing_is_a_failure(self, config):
        """Of its row alone, which stays in its place without an answer."""
        texts = pd.Series(["q0", None, math.nan, pd.NA, pd.NaT, "q5"], index=list("abcdef"), dtype=object)
        answers = batchrun.map(pd.DataFrame({"prompt": texts}), config)
        assert answers["error_type"].dropna().to_dict() == dict.fromkeys("bcde", "input_invalid")
        assert answers["content"].dropna().index.tolist() == ["a", "f"]

    def test_nothing_but_what_is_missing(self, config, server):
        """Each row is there with its reason, and nothing is sent."""
        before = len(server.ledger())
        answers = batchrun.map(pd.DataFrame({"prompt": [None, None]}), config)
        assert answers["error_type"].tolist() == ["input_invalid"] * 2
        assert len(server.ledger()) == before

    def test_no_rows(self, config, tmp_path):
        """The columns without rows, and nothing is written."""
        answers = batchrun.map(pd.DataFrame({"prompt": []}, index=pd.Index([], name="id")), config)
        assert (tuple(answers.columns), len(answers), answers.index.name) == (COLUMNS, 0, "id")
        assert list(tmp_path.iterdir()) == []

    def test_two_columns_of_one_name(self, config):
        """One would be lost: refused."""
        with pytest.raises(PromptError, match="two columns have the same name"):
            batchrun.map(pd.DataFrame([["q", "r"]], columns=["prompt", "prompt"]), config)

    def test_many_rows(self, config):
        """Their order is that of the input, not that of the answers."""
        frame = pd.DataFrame({"prompt": [f"q{number}" for number in range(12)]})
        assert batchrun.map(frame, config)["content"].map(said).tolist() == frame["prompt"].tolist()

    def test_rows_beyond_a_limit(self, config):
        """They are there, with nulls."""
        answers = batchrun.map(pd.DataFrame({"prompt": ["q0", "q1"]}), config, options=batchrun.Options(limit=1))
        assert answers["content"].isna().tolist() == [False, True]
        assert answers["error_type"].isna().all()


class TestOtherRows:
    """Everything that is no frame."""

    def test_a_series(self, config):
        """Its texts are prompts, its index is kept."""
        answers = batchrun.map(pd.Series(["q0", "q1"], index=["x", "y"]), config)
        assert answers.loc["y", "content"].count('"q1"') == 1

    def test_a_generator(self, config):
        """It is read once; the rows are numbered."""
        answers = batchrun.map((f"q{number}" for number in range(3)), config)
        assert answers["content"].map(said).tolist() == ["q0", "q1", "q2"]
        assert answers.index.tolist() == [0, 1, 2]

    def test_mappings(self, config):
        """They are rows, and may have any of a row's keys."""
        rows = [{"prompt": "q0", "params": {"max_tokens": 1}}, {"prompt": "q1"}]
        assert batchrun.map(rows, config)["finish_reason"].tolist() == ["length", "stop"]

    def test_a_generator_that_fails(self, config, tmp_path):
        """Its exception is the caller's, and nothing is left behind."""

        def rows():
            yield "q0"
            raise LookupError("no more")

        with pytest.raises(LookupError):
            batchrun.map(rows(), config)
        assert list(tmp_path.iterdir()) == []

    def test_a_table(self, config):
        """A table for a table; nulls that Arrow put into messages are not sent."""
        messages = [[{"role": "user", "content": "one"}], [{"role": "user", "content": "two", "name": "me"}]]
        answers = batchrun.map(pa.table({"messages": messages}), config)
        assert isinstance(answers, pa.Table)
        assert [said(text) for text in answers.column("content").to_pylist()] == ["one", "two"]
        assert answers.schema.metadata[b"run_folder"].decode() == config["output"]

    def test_a_table_of_another_library(self, config):
        """Any that Arrow can read; its columns are not taken for rows."""

        class Foreign:
            def __arrow_c_stream__(self, requested_schema=None):
                return pa.table({"prompt": ["q0", "q1"]}).__arrow_c_stream__(requested_schema)

            def __iter__(self):
                raise AssertionError("its columns are iterated over")

        assert batchrun.map(Foreign(), config)["content"].map(said).tolist() == ["q0", "q1"]

    @pytest.mark.parametrize("rows", ["a prompt", b"bytes", {"prompt": "one row"}, 7])
    def test_one_row_alone(self, config, rows):
        """A text would be sent letter by letter: refused."""
        with pytest.raises(ConfigError, match="not many rows") as refused:
            batchrun.map(rows, config)
        assert "a list" in refused.value.remedy


@pytest.mark.parametrize("of", [pd.DataFrame, pa.table, lambda columns: iter(columns["prompt"])])
def test_many_rows_become_lines(of):
    """Each is one, in order, however many are taken at a time."""
    texts = [f"q{number}" for number in range(1300)]
    assert [json.loads(line)["prompt"] for line in lines_of(of({"prompt": texts}))] == texts


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool(True), True),
        (np.str_("s"), "s"),
        (np.array([1, 2]), [1, 2]),
        (np.datetime64("NaT", "ns"), None),
        (pd.Timestamp("2026-01-02"), "2026-01-02T00:00:00"),
        (math.inf, "inf"),
        ({"a": [math.nan, (1, None)], 2: b"x"}, {"a": [None, [1, None]], "2": "x"}),
        (2**70, 2**70),
        ("\ud800", "\ud800"),
    ],
)
def test_what_json_has_no_form_for(value, written):
    """It becomes what comes nearest."""
    (line,) = lines_of([{"value": value}])
    assert json.loads(line) == {"value": written}


def test_a_text_that_is_no_text(config):
    """Half of a surrogate pair is a failure of its row alone."""
    answers = batchrun.map(["\ud800", "q1"], config)
    assert answers["error_type"].notna().tolist() == [True, False]


@pytest.fixture(scope="module")
def refusing():
    """An endpoint that refuses one prompt."""
    with simulated({"faults": [{"kind": "server_error", "status": 400, "match": "q1"}]}) as endpoint:
        yield endpoint


class TestFailures:
    """Rows that fail are rows."""

    def test_a_failed_row(self, refusing, tmp_path):
        """It has its reason and no content."""
        answers = batchrun.map(["q0", "q1"], keys(refusing), output=tmp_path / "out")
        assert answers["error_type"].tolist()[1] == "request_rejected"
        assert answers["content"].isna().tolist() == [False, True]
        assert answers["status_code"].tolist() == [200, 400]

    def test_strict_after_all(self, refusing, tmp_path):
        """Raised in the end if asked for, naming the folder, in which everything is."""
        with pytest.raises(RowsFailed, match="1 of 2 rows failed; the first: ") as failed:
            batchrun.map(["q0", "q1"], keys(refusing), output=tmp_path / "out", strict=True)
        assert str(tmp_path / "out") in failed.value.remedy
        assert len(batchrun.read(tmp_path / "out").to_pandas()) == 1

    def test_strict_before_all(self, config, server):
        """A row that cannot be sent stops the others before anything is paid."""
        before = len(server.ledger())
        with pytest.raises(PromptError, match=r"jsonl:2: "):
            batchrun.map(["q0", None], config, strict=True)
        assert len(server.ledger()) == before

    def test_what_ends_a_run(self, tmp_path):
        """The same error as from `run`, with notes of what to do and of where the answers are."""
        with simulated({"faults": [{"kind": "auth"}]}) as server, pytest.raises(EndpointUnusable) as ended:
            batchrun.map(["q0"], keys(server), output=tmp_path / "out")
        assert str(tmp_path / "out") in ended.value.__notes__[-1]

    def test_what_cannot_begin(self, config):
        """Its only note is what to do: nothing was answered."""
        with pytest.raises(ConfigError) as refused:
            batchrun.map(["q0"], {**config, "limits": {"concurrency": 0}})
        assert refused.value.__notes__ == [refused.value.remedy]


class TestAgain:
    """The same call goes on."""

    def test_the_same_call_sends_nothing(self, config, server, tmp_path):
        """And brings the same answers; its rows stay where they are."""
        first = batchrun.map(["again0", "again1"], config)
        sent = len(server.ledger())
        pd.testing.assert_frame_equal(batchrun.map(["again0", "again1"], config), first)
        assert len(server.ledger()) == sent
        assert len(list(tmp_path.glob("out.input-*.jsonl"))) == 1

    def test_other_rows(self, config, server, tmp_path):
        """Refused before anything is sent, and the rows of the run that is there stay."""
        batchrun.map(["q0"], config)
        sent, (kept,) = len(server.ledger()), tmp_path.glob("out.input-*.jsonl")
        with pytest.raises(FolderUnusable, match="other requests"):
            batchrun.map(["other"], config)
        assert len(server.ledger()) == sent
        assert kept.read_bytes() == b'{"prompt":"q0"}\n'

    def test_more_rows(self, config, server, tmp_path):
        """With `on_change` only the new ones are sent, and the rows are kept once."""
        batchrun.map(["grow0"], config)
        batchrun.map(["grow0", "grow1"], config, options=batchrun.Options(on_change="append"))
        assert [word for word in asked(server.ledger()) if word.startswith("grow")] == ["grow0", "grow1"]
        (rows,) = tmp_path.glob("out.input-*.jsonl")
        assert rows.read_bytes() == b'{"prompt":"grow0"}\n{"prompt":"grow1"}\n'

    def test_the_command_goes_on_too(self, config, server, tmp_path):
        """The rows are a file that only the user may read, which the command takes."""
        batchrun.map(["q0", "q1"], config)
        (rows,) = tmp_path.glob("out.input-*.jsonl")
        assert stat.S_IMODE(rows.stat().st_mode) == 0o600
        done = called("run", rows, *at(server.base_url, config["output"]))
        assert (done.code, "nothing was left to send" in done.last) == (0, True)

    def test_cancelled(self, tmp_path):
        """What was answered is kept, and the same call sends the rest alone."""
        out = tmp_path / "deep" / "out"
        with simulated({"faults": [{"kind": "slow", "seconds": 3600, "match": "q3", "first": 1}]}) as server:
            rows = [f"q{number}" for number in range(4)]

            async def give_up():
                task = asyncio.create_task(batchrun.amap(rows, keys(server), output=out))
                await until(lambda: _kept(out) == 3)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

            asyncio.run(give_up())
            assert _kept(out) == 3
            assert batchrun.map(rows, keys(server), output=out)["content"].map(said).tolist() == rows
            assert sorted(asked(server.ledger())) in (rows, [*rows, "q3"])


def _kept(folder):
    with suppress(FolderUnusable):
        return Snapshot(folder).table("results").num_rows
    return 0


class TestWhere:
    """The run folder."""

    def test_without_an_output(self, server, temporary):
        """A temporary folder, which the answers name."""
        answers = batchrun.map(["q0"], keys(server))
        folder = answers.attrs["run_folder"]
        assert folder.startswith(str(temporary))
        assert len(batchrun.read(folder).to_pandas()) == 1

    def test_that_of_a_file(self, server, tmp_path, monkeypatch):
        """A configuration file has its say, but for the input and what is given beside it."""
        monkeypatch.chdir(tmp_path)
        text = {**keys(server), "input": "not/there.jsonl", "output": "runs/{name}"}
        (tmp_path / "nightly.yaml").write_text(json.dumps(text))
        answers = batchrun.map(["q0"], "nightly.yaml", model="simulated/large")
        assert answers.attrs["run_folder"] == "runs/nightly"
        assert answers["model"].tolist() == ["simulated/large"]

    def test_the_embedded_endpoint(self, temporary, monkeypatch):
        """It answers without a server of one's own."""
        for name, value in embedded_at_once(temporary).items():
            monkeypatch.setenv(name, value)
        answers = batchrun.map(["q0"], {"endpoint": {"base_url": "simulated"}}, model="simulated/small")
        assert said(answers["content"][0]) == "q0"

    def test_wrong_keys(self, server):
        """They are refused as in a file, whatever is given beside them."""
        with pytest.raises(ConfigError, match="request"):
            batchrun.map(["q0"], {**keys(server), "request": ["model"]}, model="m")


class TestLoops:
    """With an event loop and without."""

    def test_in_a_running_loop(self, config):
        """`amap` does it there, and `map` says so, in the words of `run`."""

        async def cell():
            with pytest.raises(ConfigError) as refused:
                batchrun.map(["q0"], config)
            return refused.value, await batchrun.amap(["q0"], config)

        refused, answers = asyncio.run(cell())
        assert refused.message == "batchrun.map cannot wait inside a running loop"
        assert refused.remedy == "await batchrun.amap(...)"
        assert said(answers["content"][0]) == "q0"

    def test_two_at_once(self, server, tmp_path):
        """Of one loop, each with a folder of its own."""

        async def both():
            one = batchrun.amap(["q0"], keys(server), output=tmp_path / "one")
            return await asyncio.gather(one, batchrun.amap(["q1"], keys(server), output=tmp_path / "two"))

        assert [said(answers["content"][0]) for answers in asyncio.run(both())] == ["q0", "q1"]

    @pytest.mark.parametrize("named", [str, Path])
    def test_a_file_says_where_to(self, named, server, tmp_path):
        """By its path, as a text or a Path; its run folder and its model hold."""
        (tmp_path / "run.yaml").write_text(json.dumps(keys(server, output=str(tmp_path / "out"))))
        answers = batchrun.map(["q0"], named(tmp_path / "run.yaml"))
        assert (said(answers["content"][0]), answers.attrs["run_folder"]) == ("q0", str(tmp_path / "out"))

    def test_a_prompt_offers_the_names(self):
        """After a dot, also those that nobody has used yet."""
        command = [sys.executable, "-c", "import batchrun; print(set(batchrun.__all__) <= set(dir(batchrun)))"]
        assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "True\n"

    def test_the_help_says_what_can_be_given(self):
        """`map` and `amap` take the same."""
        assert inspect.signature(batchrun.map) == inspect.signature(batchrun.amap)
        assert {"output", "model", "template", "strict", "options"} < inspect.signature(batchrun.map).parameters.keys()


@pytest.mark.rig
def test_the_types_are_those_of_the_docs():
    """A type checker takes what may be written, and nothing else."""
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "tests/typing_api.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if line.startswith("tests/typing_api.py")] == []
    assert "typing_api.py" not in done.stderr
