"""A plan with the model's own tokenizer: exact for the text, honest about what stands around it."""

from __future__ import annotations

import json
import sys

import pytest
from commands import at, called
from servers import simulated
from tokenizers import Tokenizer, models, pre_tokenizers

from batchrun.config import check_config
from batchrun.errors import ConfigError
from batchrun.forecast import tokenizer as counting
from batchrun.forecast.tokenizer import TokenCounts
from batchrun.forecasting import forecast
from batchrun.types import Request

QUICK = {"latency": {"ttft_s": 0, "per_token_s": 0}}


@pytest.fixture
def tokenizer(tmp_path):
    """A tokenizer for which each word is a token, and which asks to cut and to fill up, as files from training do."""
    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.enable_truncation(2)
    words.enable_padding(length=64)
    path = tmp_path / "tokenizer.json"
    words.save(str(path))
    return str(path)


def request(*, turns: tuple[str, ...] = (), **body) -> Request:
    """A request with this body."""
    encoded = json.dumps({"model": "m", **body}).encode()
    return Request(index=0, custom_id="c", request_key="k", api="chat", model="m", body=encoded, turns=turns)


def said(*texts) -> list[dict]:
    """Messages with these contents."""
    return [{"role": "user", "content": text} for text in texts]


def texts_of(path: str, *requests: Request | None) -> list[int]:
    """The tokens of their text."""
    counts = TokenCounts(path)
    for one in requests:
        counts.add(one)
    return counts.counted().text.tolist()


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"messages": said("one two three")}, 3),
        ({"messages": said("one", "two three")}, 3),
        (
            {
                "messages": said(
                    [{"type": "text", "text": "one two"}, {"type": "image_url", "image_url": {"url": "x y"}}]
                )
            },
            2,
        ),
        ({"messages": said(None), "tools": [{"a": 1}]}, 2),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{"a": 1}]}]}, 2),
        ({"prompt": "one two"}, 2),
        ({"input": "one two three"}, 3),
        ({"messages": said(None), "tools": None}, 0),
        ({}, 0),
    ],
)
def test_text_is_counted_wherever_it_stands(tokenizer, body, tokens):
    """Contents, parts, tools and calls; not images, and neither cut nor filled up as the file asks."""
    assert texts_of(tokenizer, request(**body)) == [tokens]


def test_each_turn_has_all_that_was_said_before(tokenizer):
    """Of three questions the first is asked three times, the second twice."""
    assert texts_of(tokenizer, request(messages=said("a"), turns=("b c", "d e f"))) == [3 + 2 * 2 + 3]


def test_rows_keep_their_places(tokenizer, monkeypatch):
    """Whatever the batches, and however often a text is there."""
    monkeypatch.setattr(counting, "_BATCH_TEXTS", 3)
    rows = [request(messages=said("the same", "word " * index)) if index % 5 else None for index in range(20)]
    assert texts_of(tokenizer, *rows) == [2 + index if index % 5 else 0 for index in range(20)]


def test_what_the_template_adds_is_a_range(tokenizer):
    """Nothing of it is claimed to be known: a chat has more than its text, a plain text hardly."""
    counts = TokenCounts(tokenizer)
    counts.add(request(messages=said("a", "b")))
    counts.add(request(messages=said("a"), tools=[1]))
    counts.add(request(prompt="a"))
    _, likely, most = (column.tolist() for column in counts.counted())
    assert likely == [11, 7, 0]
    assert most == [120, 710, 2]


def plan(tmp_path, path, base_url="simulated", **request):
    """The forecast of 60 rows of four words."""
    source = tmp_path / "in.jsonl"
    source.write_text("".join('{"prompt": "these are four words"}\n' for _ in range(60)))
    values = {"input": str(source), "output": str(tmp_path / "out"), "endpoint": {"base_url": base_url}}
    config = check_config({**values, "request": {"model": "simulated/small", **request}, "tokenizer": path})
    return forecast(config, limit=None, retry_failed="retryable")


def test_a_plan_counts_with_it(tmp_path, tokenizer):
    """From the text's tokens alone up to what a template may add; the page says whose count it is."""
    found = plan(tmp_path, tokenizer)
    assert (found.prompt_tokens.low, found.prompt_tokens.likely) == (240, 60 * 11)
    assert found.models[0].prompt_tokens_by == "tokenizer"
    printed = called("plan", tmp_path / "in.jsonl", "-m", "simulated/small", "--set", f"tokenizer={tokenizer}").out
    assert (
        " ".join(printed.split()).count(f"text counted with {tokenizer}; what the chat template adds is a guess") == 1
    )


def test_answers_in_the_folder_tell_what_the_template_adds(tmp_path, tokenizer):
    """What they have more than their text is added to the text of the others."""
    with simulated(QUICK) as server:
        plan(tmp_path, tokenizer, server.base_url)
        assert called("run", tmp_path / "in.jsonl", *at(server.base_url, tmp_path / "out"), "-n", 30, "-q").code == 0
        a_row = server.totals()["prompt_tokens"] / 30
        found = plan(tmp_path, tokenizer, server.base_url)
    assert found.models[0].prompt_tokens_by == "tokenizer and answers"
    assert found.prompt_tokens.likely == pytest.approx(30 * a_row)
    assert found.prompt_tokens.low >= 30 * 4


def test_a_tokenizer_that_counts_more_than_the_endpoint_is_another_models(tmp_path, tokenizer):
    """The answers are believed, and the file is named."""
    with simulated(QUICK) as server:
        plan(tmp_path, tokenizer, server.base_url)
        assert called("run", tmp_path / "in.jsonl", *at(server.base_url, tmp_path / "out"), "-n", 30, "-q").code == 0
        letters = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
        letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        letters.save(tokenizer)
        found = plan(tmp_path, tokenizer, server.base_url)
    assert found.models[0].prompt_tokens_by == "answers"


def test_it_counts_for_its_own_model_only(tmp_path, tokenizer):
    """A row that names another model is estimated."""
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a b"}\n{"prompt": "a b", "model": "simulated/large"}\n')
    request = {"model": "simulated/small"}
    values = {"input": str(source), "output": str(tmp_path / "out"), "endpoint": {"base_url": "simulated"}}
    found = forecast(
        check_config({**values, "request": request, "tokenizer": tokenizer}), limit=None, retry_failed="all"
    )
    assert {one.model: one.prompt_tokens_by for one in found.models} == {
        "simulated/small": "tokenizer",
        "simulated/large": "guess",
    }


@pytest.mark.parametrize("content", ["", "{}", "[", "\x00", '{"version": "1.0", "model": {"type": "BPE", "vocab": 1}}'])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path, content):
    """With its name and where to find one."""
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="is no tokenizer") as refused:
        TokenCounts(str(path))
    assert "Hugging Face" in refused.value.remedy
    assert str(path) in refused.value.message


def test_a_file_that_is_not_there_is_refused(tmp_path):
    """Nor is a folder one."""
    for path in (tmp_path / "no.json", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            TokenCounts(str(path))


def test_a_tokenizer_without_a_token_for_a_word_is_none(tmp_path):
    """It is found out with the first text that it cannot count."""
    path = str(tmp_path / "tokenizer.json")
    Tokenizer(models.WordLevel({"a": 0}, unk_token="[UNK]")).save(path)
    with pytest.raises(ConfigError, match="is no tokenizer: WordLevel error"):
        texts_of(path, request(prompt="b"))


def test_without_the_extra_it_says_what_to_install(tmp_path, tokenizer, monkeypatch):
    """The package is optional; nothing else needs it."""
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError, match="the package tokenizers is missing") as refused:
        TokenCounts(tokenizer)
    assert "batchrun-llm[tokenizers]" in refused.value.remedy
    assert plan(tmp_path, None).tokenizer is None
