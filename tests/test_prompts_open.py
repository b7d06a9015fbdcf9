"""Finding the input: paths, globs, standard input, and every way of naming none."""

from __future__ import annotations

import gc
import gzip
import io
import os
import subprocess
import sys
import threading

import pyarrow as pa
import pytest

from batchrun.errors import PromptError
from batchrun.prompts import open_prompts

LINE = b'{"prompt": "p"}\n'


def refusal(source):
    """Open what cannot be opened."""
    with pytest.raises(PromptError) as caught:
        open_prompts(str(source))
    assert caught.value.exit_code == 2
    return caught.value


@pytest.fixture
def stdin(monkeypatch):
    """Feed standard input."""

    def feed(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        return open_prompts("-")

    return feed


def test_a_missing_file_names_the_nearest(tmp_path):
    """A misspelt name is answered with the right one."""
    (tmp_path / "prompts.jsonl").write_bytes(LINE)
    error = refusal(tmp_path / "promts.jsonl")
    assert "there is no such file" in error.message
    assert error.remedy == f"did you mean {tmp_path}/prompts.jsonl?"


def test_a_missing_folder_is_named(tmp_path):
    """When the folder is the mistake, the folder is named."""
    assert f"there is no folder {tmp_path}/data either" in refusal(tmp_path / "data" / "x.jsonl").remedy


def test_nothing_near_gives_a_command(tmp_path):
    """Without a similar name there is still something to type."""
    assert refusal(tmp_path / "x.jsonl").remedy == f"look at `ls {tmp_path}`"


def test_a_folder_is_refused_with_a_glob(tmp_path):
    """The remedy is the glob for what the folder holds."""
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    error = refusal(tmp_path)
    assert "is a folder" in error.message
    assert f"'{tmp_path}/*.parquet*'" in error.remedy


def test_an_empty_file_is_refused(tmp_path):
    """Nothing to run is not success."""
    (tmp_path / "in.jsonl").touch()
    assert "is empty" in refusal(tmp_path / "in.jsonl").message


def test_a_glob_without_a_match_is_refused(tmp_path):
    """A glob that finds nothing says so."""
    assert "matches no file" in refusal(tmp_path / "*.jsonl").message


def test_an_unknown_suffix_lists_the_known(tmp_path):
    """The remedy says what can be read."""
    (tmp_path / "in.xlsx").write_bytes(b"PK")
    error = refusal(tmp_path / "in.xlsx")
    assert ".jsonl .ndjson .json .csv" in error.remedy
    assert ".parquet" in error.remedy


def test_a_prompt_in_place_of_a_path_is_refused():
    """A name too long for the file system is an error for people, not a traceback."""
    assert "cannot be read" in refusal("write a poem about the sea " * 30).message


def test_a_glob_character_in_a_real_name_is_no_glob(tmp_path):
    """A file that is there is taken by its name."""
    (tmp_path / "a[1].jsonl").write_bytes(LINE)
    assert open_prompts(str(tmp_path / "a[1].jsonl")).files == [str(tmp_path / "a[1].jsonl")]


def test_the_home_folder_is_known(tmp_path, monkeypatch):
    """In a configuration no shell fills in the tilde."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "in.jsonl").write_bytes(LINE)
    assert open_prompts("~/in.jsonl").files == [str(tmp_path / "in.jsonl")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path):
    """What may not be read is named."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(LINE)
    path.chmod(0)
    with pytest.raises(PromptError, match="Permission denied"):
        list(open_prompts(str(path)).read())


def test_a_file_that_goes_away_is_named(tmp_path):
    """Losing the input between two readings is an error for people."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(LINE)
    prompts = open_prompts(str(path))
    path.unlink()
    with pytest.raises(PromptError, match=r"in\.jsonl: cannot be read to its end: No such file"):
        list(prompts.read())


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: pa.Codec("zstd").compress(data, asbytes=True)])
def test_a_truncated_download_is_refused_as_a_whole(tmp_path, pack):
    """Half of a compressed file is not half of the rows."""
    packed = pack(b"".join(b'{"prompt": "%d"}\n' % n for n in range(10_000)))
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(PromptError, match="cannot be read to its end") as caught:
        list(open_prompts(str(path)).read())
    assert "whole" in caught.value.remedy


def test_standard_input_is_read_as_often_as_needed(stdin):
    """It is kept, as the check and the run both read it."""
    prompts = stdin(LINE * 3)
    assert [prompt.where for prompt in prompts.read()] == ["stdin:1", "stdin:2", "stdin:3"]
    assert len(list(prompts.read())) == 3
    assert (prompts.files, prompts.size_bytes) == (["stdin"], 3 * len(LINE))


def test_standard_input_may_be_compressed(stdin):
    """Its first bytes say so."""
    assert len(list(stdin(gzip.compress(LINE * 3)).read())) == 3


def test_standard_input_may_be_parquet(stdin):
    """Its first bytes say so."""
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(pa.table({"prompt": ["p", "q"]}), sink)
    assert [prompt.row for prompt in stdin(sink.getvalue().to_pybytes()).read()] == [{"prompt": "p"}, {"prompt": "q"}]


def test_empty_standard_input_is_refused(stdin):
    """A pipe that brought nothing says so."""
    with pytest.raises(PromptError, match="stdin: is empty"):
        stdin(b"")


def test_closed_standard_input_is_empty(monkeypatch):
    """A daemon may have none."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(PromptError, match="stdin: is empty"):
        open_prompts("-")


def test_a_full_disk_is_named():
    """Standard input that cannot be kept is an error for people."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from batchrun.errors import PromptError; from batchrun.prompts import open_prompts\n"
        "try: open_prompts('-')\n"
        "except PromptError as error: print(error.message, error.remedy)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], input=LINE * 1000, capture_output=True, check=True
    )
    assert done.stdout.startswith(b"stdin: cannot be kept: File too large")
    assert b"TMPDIR" in done.stdout
    assert done.stderr == b""


def test_what_standard_input_was_kept_in_is_closed(stdin):
    """The temporary file goes with the Prompts; warnings are errors here."""
    prompts = stdin(LINE)
    spooled = prompts._spooled
    del prompts
    gc.collect()
    assert spooled.closed


def test_a_named_pipe_is_read_like_standard_input(tmp_path):
    """`batchrun run <(command)` works."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(LINE * 2,), daemon=True)
    writer.start()
    prompts = open_prompts(str(pipe))
    writer.join(10)
    assert len(list(prompts.read())) == 2


def test_plain_files_need_no_heavy_imports(tmp_path):
    """Opening and reading JSON lines loads neither pyarrow nor pandas nor a template engine."""
    (tmp_path / "in.jsonl").write_bytes(LINE)
    code = (
        "import sys; from batchrun.prompts import open_prompts; import batchrun.prompts.render, batchrun.prompts.check;"
        "list(open_prompts(sys.argv[1]).read()); print({'pyarrow', 'pandas', 'numpy', 'jinja2'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "in.jsonl")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
