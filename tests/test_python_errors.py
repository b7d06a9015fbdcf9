"""batchrun.errors as a program meets them: in a traceback, and out of another process."""

from __future__ import annotations

import pickle
import traceback

import pytest

from batchrun.errors import BatchrunError, ConfigError, EndpointUnusable, Interrupted, PromptError

ERRORS = [
    ConfigError("a key is wrong", remedy="correct it"),
    PromptError("no prompt", where="rows.jsonl:2", index=1, custom_id="b", remedy="give it one"),
    EndpointUnusable("no credit", error_type="billing", status_code=402, remedy="pay"),
    Interrupted(2, "SIGINT"),
]


def test_a_traceback_says_what_to_do():
    """Under what happened."""
    shown = "".join(traceback.format_exception_only(ERRORS[0]))
    assert shown == "batchrun.errors.ConfigError: a key is wrong\ncorrect it\n"


def test_without_a_remedy_nothing_is_added():
    """No empty line."""
    assert "".join(traceback.format_exception_only(BatchrunError("it broke"))).count("\n") == 1


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_it_comes_whole_out_of_another_process(error):
    """Pools of processes send what was raised as a pickle."""
    there = pickle.loads(pickle.dumps(error))
    assert (type(there), str(there), vars(there)) == (type(error), str(error), vars(error))
