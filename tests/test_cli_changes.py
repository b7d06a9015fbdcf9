"""A changed input, as a user meets it: refused with what it means, then taken on as he says, and nothing paid twice."""

from __future__ import annotations

from commands import asked, at, begun, called, kept, prompts, typed, wait_for
from servers import simulated

from batchrun import read


def reversed_and_longer(path, rows: int):
    """The same prompts, the last first, and one more."""
    lines = prompts(path, rows).read_text().splitlines()
    path.write_text("\n".join([*lines[::-1], '{"custom_id": "more", "prompt": "more"}']) + "\n")
    return path


def test_a_longer_input_is_refused_then_appended_and_only_the_new_row_is_paid_for(tmp_path):
    """The refusal says what would happen, and what to type."""
    with simulated() as server:
        arguments = at(server.base_url, tmp_path / "out")
        assert called("run", prompts(tmp_path / "in.jsonl", 12), *arguments).code == 0
        longer = reversed_and_longer(tmp_path / "in.jsonl", 12)
        refused = called("run", longer, *arguments)
        assert refused.code == 7
        assert "rows: 12 kept, 1 new, 0 changed, 0 gone" in refused.err
        assert "--on-change append" in refused.last
        assert len(server.ledger()) == 12
        done = called("run", longer, *arguments, "--on-change", "append")
        assert done.code == 0, done.err
        assert "the input has changed: 12 kept, 1 new" in done.err
        assert asked(server.ledger())[12:] == ["more"]
        assert "nothing was left to send" in called("run", longer, *arguments, "-q").last
    assert kept(tmp_path / "out") == [*(f"c{index}" for index in range(11, -1, -1)), "more"]


def test_another_model_means_that_all_rows_have_changed(tmp_path):
    """The key that differs is named; with `rerun` the old answers are set aside."""
    with simulated() as server:
        arguments = ["run", prompts(tmp_path / "in.jsonl", 5), *at(server.base_url, tmp_path / "out")]
        assert called(*arguments).code == 0
        arguments += ["-m", "simulated/large"]
        refused = called(*arguments, "--on-change", "append")
        assert refused.code == 7
        assert 'request.model: "simulated/small" -> "simulated/large"' in refused.err
        assert "0 kept, 0 new, 5 changed, 0 gone\n  --on-change append is for new rows alone: some" in refused.err
        done = called(*arguments, "--on-change", "rerun")
        assert done.code == 0, done.err
        assert "Not counted: 5 rows of an earlier input, which cost $" in done.out
    assert set(read(tmp_path / "out").to_pandas()["requested_model"]) == {"simulated/large"}
    assert len(list((tmp_path / "out" / "_replaced" / "results").glob("part-*"))) == 1


def test_new_runs_in_a_folder_of_its_own_and_goes_on_there(tmp_path):
    """What is in the first folder stays as it is."""
    with simulated() as server:
        arguments = at(server.base_url, tmp_path / "out", "--on-change", "new")
        assert called("run", prompts(tmp_path / "in.jsonl", 3), *arguments).code == 0
        changed = prompts(tmp_path / "in.jsonl", 4, words="changed")
        done = called("run", changed, *arguments)
        assert done.code == 0, done.err
        assert done.last.endswith("out-2")
        assert "nothing was left to send" in called("run", changed, *arguments).last
        assert len(server.ledger()) == 7
    assert (len(kept(tmp_path / "out")), len(kept(tmp_path / "out-2"))) == (3, 4)


def test_a_fresh_start_that_is_stopped_goes_on_in_its_folder(tmp_path):
    """The command to type next is not the one that would start over again."""
    source = prompts(tmp_path / "in.jsonl", 12)
    with simulated({"latency": {"ttft_s": 0.1, "per_token_s": 0, "sigma": 0}}) as server:
        arguments = at(server.base_url, tmp_path / "out", "-c", 2)
        assert called("run", source, *arguments, "-n", 1).code == 0
        with begun("run", source, *arguments, "--fresh") as process:
            wait_for(lambda: len(server.ledger()) >= 4, process)
            process.terminate()
            _, err = process.communicate(timeout=60)
        following = err.splitlines()[-1].partition("Next: ")[2].split()
        assert "--fresh" not in following
        assert following[-2:] == ["-o", str(tmp_path / "out-2")]
        done = typed(*following[1:])
        assert done.code == 0, done.err
        assert len(server.ledger()) == 13
    assert len(kept(tmp_path / "out-2")) == 12
