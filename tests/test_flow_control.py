"""Flow control as a whole, in virtual time: the engine against an endpoint with limits of its own, and bad moments.

Of each case: no row is lost (or the stated failure), nothing is sent more often than is allowed, and little of what
is allowed is wasted.
"""

from __future__ import annotations

import asyncio
import functools
import math
import random
from collections import Counter

import pytest
import virtual_time
from engines import Engine, completion, no_answer, refused, rejected, server_error, unusable
from limited_server import Leaky, Places, Server, Window, refusal, tap

from batchrun.errors import EndpointUnusable

LONGEST_S = 20_000.0


def flow(server, count, *, max_tokens=None, models=("m",), price_for=lambda _: None, **sections) -> Engine:
    """Run so many rows against a server to the end, the jitter being the same each time."""
    random.seed(count)

    async def main():
        rows = tap(count, models=models, max_tokens=max_tokens)
        async with asyncio.timeout(LONGEST_S):
            engine = Engine(server, rows, count=count, models=len(models), price_for=price_for, **sections)
            return await engine.run()

    return virtual_time.run(main())


def failures(engine: Engine) -> Counter:
    """How often each failure was kept."""
    return Counter(record.error_type for record in engine.records.values() if record.error_type)


def nothing_lost(engine: Engine, count: int) -> bool:
    """Whether the run came to its end, and each of its rows to an answer."""
    return engine.pool.cause is None and len(engine.records) == count and not failures(engine)


@functools.cache
def sizes(most: int) -> list[int]:
    """Lengths of answers, the same each time."""
    lengths = random.Random(most)
    return [lengths.randint(1, most) for _ in range(20_000)]


def rig(*values, **more):
    """A case of the long form."""
    return pytest.param(*values, marks=pytest.mark.rig, **more)


# Limits that the user has set


@pytest.mark.parametrize(
    ("limit", "endpoint"),
    [
        (60, Window),
        (600, Window),
        (600, lambda limit: Leaky(limit / 60)),
        (1200, lambda limit: Leaky(limit / 60, 5)),
        rig(6000, Window),
        rig(6000, lambda limit: Leaky(limit / 60, 10)),
        rig(12_000, Window),
    ],
)
def test_requests_a_minute_are_kept_and_used(limit, endpoint):
    """The endpoint allows exactly as many: it turns nobody away, and at least 97 % of them are used."""
    server = Server(endpoint(limit))
    count = int(limit * 1.6) + 40
    engine = flow(server, count, limits={"requests_per_minute": limit, "concurrency": 256})
    assert nothing_lost(engine, count)
    assert server.refused == []
    assert server.most_in_a_minute() <= limit
    assert server.rate(10, 90) >= 0.97 * limit / 60


@pytest.mark.parametrize(
    ("generated", "max_tokens", "latency_s", "refused"),
    [
        (lambda _: 300, 300, 0.5, 0.0),
        (lambda _: 300, 1000, 0.5, 0.0),
        (lambda _: 300, None, 5.0, 0.0),
        (lambda _: 900, 1000, 5.0, 0.0),
        (lambda index: sizes(360)[index], 400, 0.5, 0.01),
        rig(lambda _: 20, 4096, 0.5, 0.0),
        rig(lambda _: 300, 1000, 60.0, 0.0),
        rig(lambda index: 50 if index % 2 else 250, 256, 2.0, 0.01),
    ],
    ids=["as long as allowed", "shorter", "no limit", "longer than the guess", "any", "tiny", "slow", "two kinds"],
)
def test_generated_tokens_a_minute_are_kept_and_used(generated, max_tokens, latency_s, refused):
    """Of 36,000 at least 95 % are used after a minute; at most 1 % is turned away where lengths are not to be known."""
    server = Server(Window(36_000, "generated_tokens"), generated=generated, latency_s=latency_s)
    count = int(36_000 * 4 / sum(generated(index) for index in range(100)) * 100)
    limits = {"generated_tokens_per_minute": 36_000, "concurrency": 512}
    engine = flow(server, count, max_tokens=max_tokens, limits=limits)
    assert nothing_lost(engine, count)
    assert server.share_refused() <= refused
    assert server.rate(60, 220, "generated_tokens") >= 0.95 * 600


@pytest.mark.parametrize("name", ["prompt_tokens", "uncached_prompt_tokens"])
@pytest.mark.parametrize("limit", [6000, rig(60_000)])
def test_prompt_tokens_a_minute_are_kept_and_used(name, limit):
    """Their number is known beforehand: not one request is turned away, the first minute included."""
    server = Server(Window(limit, "prompt_tokens"))
    count = limit // 100 * 3
    engine = flow(server, count, limits={f"{name}_per_minute": limit, "concurrency": 256})
    assert nothing_lost(engine, count)
    assert server.refused == []
    assert server.rate(60, 160, "prompt_tokens") >= 0.95 * limit / 60


@pytest.mark.parametrize(
    ("limits", "binds", "per_s"),
    [
        ({"requests": 600, "prompt_tokens": 120_000, "generated_tokens": 6000}, "generated_tokens", 100),
        ({"requests": 300, "prompt_tokens": 120_000, "generated_tokens": 6000}, "requests", 5),
        ({"requests": 600, "prompt_tokens": 30_000, "generated_tokens": 6000}, "prompt_tokens", 500),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_of_several_limits_the_tightest_is_used(limits, binds, per_s):
    """And none of the others is passed."""
    server = Server(*(Window(limit, name) for name, limit in limits.items()), latency_s=0.5)
    count = int(per_s * 140 / {"requests": 1, "prompt_tokens": 100, "generated_tokens": 10}[binds])
    engine = flow(server, count, max_tokens=10, limits={f"{name}_per_minute": limit for name, limit in limits.items()})
    assert nothing_lost(engine, count)
    assert server.refused == []
    assert server.rate(60, 120, binds) >= 0.95 * per_s


def test_one_request_a_minute_is_one_request_a_minute():
    """The smallest limit that anybody sets."""
    server = Server(Window(1))
    engine = flow(server, 5, limits={"requests_per_minute": 1})
    assert nothing_lost(engine, 5)
    assert server.refused == []
    assert 4 * 60 <= engine.ended_at <= 4 * 62


@pytest.mark.parametrize(("name", "limit"), [("prompt_tokens", 10), ("generated_tokens", 1)])
def test_a_request_ten_times_a_whole_budget_goes_alone_instead_of_never(name, limit):
    """And the next one when the budget has made up for it: on average no more is used than is allowed."""
    server = Server(Window(limit, name))
    engine = flow(server, 3, max_tokens=10, limits={f"{name}_per_minute": limit})
    assert nothing_lost(engine, 3)
    assert server.refused == []
    assert engine.ended_at <= 2 * (600 / 0.95 + 62) + 62


@pytest.mark.parametrize("limit", [50, 99.5, 150])
def test_requests_about_as_large_as_the_whole_budget_go_one_by_one(limit):
    """Each of a hundred tokens: never two of them in a minute, and none waits for ever."""
    server = Server(Window(limit, "prompt_tokens"))
    engine = flow(server, 6, limits={"prompt_tokens_per_minute": limit})
    assert nothing_lost(engine, 6)
    assert server.refused == []


# Limits that nobody has told us


@pytest.mark.parametrize("retry_after", [rig(None), "1"])
@pytest.mark.parametrize(
    ("bucket", "latency_s", "used", "refused"),
    [
        ((10, 100), 0.1, 0.8, 0.1),
        ((100, 100), 0.1, 0.9, 0.03),
        rig((100, 100), 0.005, 0.9, 0.03),
        rig((100, 200), 0.005, 0.9, 0.03),
        rig((100, 200), 0.1, 0.9, 0.03),
        rig((100, 100), 1.0, 0.9, 0.03),
        rig((1000, 100), 0.1, 0.9, 0.03),
    ],
)
def test_a_rate_that_nobody_has_told_us_is_found(bucket, latency_s, used, refused, retry_after):
    """After some seconds most of what a leaky bucket allows is used; at a hundred a second 3 % are turned away."""
    per_s, burst = bucket
    headers = {"retry-after": retry_after} if retry_after else {}
    server = Server(Leaky(per_s, burst), latency_s=latency_s, headers=headers)
    allowed_per_s = min(per_s, 64 / latency_s)
    count = min(6000, int(25 * allowed_per_s) + burst)
    engine = flow(server, count)
    end_s = server.served[-1].at
    assert nothing_lost(engine, count)
    assert server.share_refused(0.2 * end_s) <= refused
    assert server.rate(0.2 * end_s, 0.95 * end_s) >= used * allowed_per_s


@pytest.mark.parametrize(
    ("limit", "per_s", "seconds"),
    [
        (lambda: Leaky(100, 0), 100, 30),
        (lambda: Leaky(100, 9), 100, 30),
        (lambda: Leaky(100, 99), 100, 30),
        (lambda: Leaky(10, 9), 10, 100),
        (lambda: Leaky(10, 99), 10, 100),
        (lambda: Places(8), 80, 30),
    ],
    ids=["100/s burst 1", "100/s burst 10", "100/s burst 100", "10/s burst 10", "10/s burst 100", "8 places"],
)
def test_after_a_quarter_minute_nine_tenths_of_what_is_allowed_are_used(limit, per_s, seconds):
    """Whatever kind of limit it is; and at most 3 % are turned away."""
    server = Server(limit(), latency_s=0.1)
    count = per_s * seconds
    engine = flow(server, count)
    end_s = server.served[-1].at
    assert nothing_lost(engine, count)
    assert server.rate(15, end_s - 2) >= 0.9 * per_s
    assert server.share_refused(15) <= 0.03


def test_one_stray_429_does_not_cost_a_run_its_pace():
    """At the 6,000 a minute that the user has set and the endpoint allows: less than one second."""
    server = Server(trouble=lambda sent: (0.005, refusal()) if sent.index == 1000 and sent.number == 1 else None)
    engine = flow(server, 2000, limits={"requests_per_minute": 6000})
    assert nothing_lost(engine, 2000)
    assert engine.ended_at <= 20 / 0.995 + 1


def test_a_limiter_without_any_burst_is_not_taken_for_a_narrow_place():
    """Slow answers, one request each 10 ms: what is out for a while was let in, so it is the rate that was too high."""
    server = Server(Leaky(100, 0), latency_s=1.0)
    engine = flow(server, 2000)
    assert nothing_lost(engine, 2000)
    assert engine.ended_at <= 100
    assert server.share_refused() <= 0.03


@pytest.mark.parametrize("places", [1, 8, rig(32)])
@pytest.mark.parametrize("latency_s", [0.1, 1.0])
def test_a_number_of_places_that_nobody_has_told_us_is_found(places, latency_s):
    """The endpoint takes so many at once and turns the others away: few in the end, and no row is lost."""
    server = Server(Places(places), latency_s=latency_s)
    count = int(min(1500, 60 * places / latency_s))
    engine = flow(server, count)
    end_s = server.served[-1].at
    assert nothing_lost(engine, count)
    assert server.share_refused(0.5 * end_s) <= (0.03 if places > 1 else 0.1)
    assert server.rate(0.2 * end_s, 0.95 * end_s) >= 0.4 * places / latency_s


# 429 for ever, or for a while


WAITS = [None, "0", "-5", "1", "89", "1e9", "nan", "inf", "soon", "Wed, 21 Oct 2099 07:28:00 GMT"]


@pytest.mark.parametrize("retry_after", WAITS)
def test_429_for_ever_ends_the_run_and_loses_no_row(retry_after):
    """After `stall_s`, with fewer than two requests a second on the whole, and no row kept as failed for it."""
    headers = {"retry-after": retry_after} if retry_after else {}
    server = Server(trouble=lambda _: (0.005, refusal(headers)))
    engine = flow(server, 1000, timeouts={"stall_s": 290})
    assert isinstance(engine.pool.cause, EndpointUnusable)
    assert engine.ended_at == pytest.approx(290, abs=1)
    assert engine.records == {}
    assert sum(server.came.values()) <= 2 * 290


@pytest.mark.parametrize(("retry_after", "late_s"), [(None, 1.0), ("0", 1.0), ("1", 2.0), ("10", 12.0), ("89", 92.0)])
def test_a_429_storm_is_waited_out(retry_after, late_s):
    """Half a minute in which everything is turned away costs few requests; what waits goes out soon after it."""
    headers = {"retry-after": retry_after} if retry_after else {}
    server = Server(trouble=lambda sent: (0.005, refusal(headers)) if sent.at < 30 else None)
    engine = flow(server, 300)
    assert nothing_lost(engine, 300)
    turned_away = sum(server.came.values()) - 300
    assert turned_away <= 250
    assert server.served[0].at <= max(30, late_s) + 30


def test_a_retry_after_that_is_huge_fails_rows_only_after_the_longest_wait():
    """Each is asked for once more after `max_wait_s`; then it is `rate_limited`, and nobody sleeps for hours."""
    server = Server(trouble=lambda _: (0.005, refusal({"retry-after": "1e9"})))
    engine = flow(server, 3, retry={"max_wait_s": 60})
    assert engine.pool.cause is None
    assert failures(engine) == {"rate_limited": 3}
    assert set(server.came.values()) == {2}
    assert 60 <= engine.ended_at <= 5 * 60


def test_rows_that_are_told_to_wait_for_hours_wait_for_the_others_first():
    """One model says wait an hour, for ten minutes; the others' rows take longer: none fails, nobody asks often."""
    slow, late = Server(latency_s=60.0), Server()
    told = refusal({"retry-after": "3600"})

    def script(sent):
        if sent.index % 20 != 19:
            return slow(sent)
        return (0.005, told) if sent.at < 600 else late(sent)

    models = ("slow",) * 19 + ("hours",)
    engine = flow(script, 120, models=models, limits={"concurrency": 8}, retry={"max_wait_s": 60})
    assert nothing_lost(engine, 120)
    assert sum(engine.endpoint.tries(index) != [] for index in range(19, 120, 20)) == 6
    assert len(engine.endpoint.sent) - 120 <= 6 * 600 / 60


def test_where_all_rows_are_told_to_wait_for_hours_the_run_ends_early():
    """After `stall_s`, and with one request for each wait: 5,000 rows stay open, none is kept as failed."""
    server = Server(trouble=lambda _: (0.005, refusal({"retry-after": "3600"})))
    engine = flow(server, 5000, retry={"max_wait_s": 60}, timeouts={"stall_s": 300})
    assert isinstance(engine.pool.cause, EndpointUnusable)
    assert engine.records == {}
    assert sum(server.came.values()) <= 64 + 300 / 60
    assert engine.ended_at <= 301


def test_no_request_comes_before_its_retry_after():
    """A floor for the whole run: after the first 429 nobody goes out for ten seconds."""
    server = Server(trouble=lambda sent: (0.0, refusal({"retry-after": "10"})) if sent.at < 5 else None)
    flow(server, 500)
    assert min(one.at for one in server.served) >= 10


# Limits that change on the way


def test_a_limit_that_shrinks_tenfold_is_found_again():
    """From fifty a second to five: no row is lost, and the five are used."""
    server = Server(Leaky(lambda at: 50 if at < 30 else 5, 10), headers={"retry-after": "1"})
    engine = flow(server, 1700)
    assert nothing_lost(engine, 1700)
    assert server.rate(60, 70) >= 0.7 * 5
    assert server.share_refused(40) <= 0.1


@pytest.mark.rig
def test_a_limit_that_grows_tenfold_is_found():
    """From ten a second to a hundred: within three minutes, at three per cent a second, most of it is used."""
    server = Server(Leaky(lambda at: 10 if at < 30 else 100, 10), headers={"retry-after": "1"})
    engine = flow(server, 16_000)
    assert nothing_lost(engine, 16_000)
    assert server.rate(150, 200) >= 0.7 * 100


@pytest.mark.rig
@pytest.mark.parametrize(
    ("limits", "used"), [({"generated_tokens_per_minute": 216_000}, 0.95), ({}, 0.85)], ids=["configured", "untold"]
)
def test_a_token_limit_that_grows_sixfold_is_used(limits, used):
    """36,000 generated tokens a minute, twice as many after every 20 minutes; the headers say so; 1 % turned away."""

    def allowed(at):
        return min(216_000.0, 36_000 * 2 ** (at / 1200))

    server = Server(
        Window(allowed, "generated_tokens"),
        latency_s=10.0,
        generated=lambda _: 1000,
        headers=lambda sent: {"x-ratelimit-limit-tokens-generated": str(int(allowed(sent.at)))},
    )
    engine = flow(server, 4200, max_tokens=1000, limits={"concurrency": 128, **limits})
    assert nothing_lost(engine, 4200)
    assert server.share_refused() <= 0.01
    assert server.rate(60, 2700, "generated_tokens") >= used * sum(allowed(at) / 60 for at in range(60, 2700)) / 2640


def test_a_users_limit_that_is_suddenly_too_high_loses_no_row():
    """The endpoint allows a tenth of it from one moment on."""
    server = Server(Window(lambda at: 600 if at < 60 else 60))
    engine = flow(server, 700, limits={"requests_per_minute": 600})
    assert nothing_lost(engine, 700)
    assert max(server.came.values()) <= 30


def test_a_users_limit_is_never_passed_though_more_is_allowed():
    """The endpoint allows ten times as much from one moment on; what the user says counts."""
    server = Server(Window(lambda at: 600 if at < 30 else 6000))
    engine = flow(server, 1000, limits={"requests_per_minute": 600})
    assert nothing_lost(engine, 1000)
    assert server.most_in_a_minute() <= 600


def test_a_token_limit_that_shrinks_is_taken_from_the_headers():
    """A tenth of it is left, and said so: 95 % of that is used, and hardly anything turned away."""
    server = Server(
        Window(lambda at: 36_000 if at < 60 else 3600, "generated_tokens"),
        headers=lambda sent: {"x-ratelimit-limit-tokens-generated": "36000" if sent.at < 60 else "3600"},
        generated=lambda _: 40,
    )
    engine = flow(server, 1250, max_tokens=100, limits={"generated_tokens_per_minute": 36_000})
    assert nothing_lost(engine, 1250)
    assert server.share_refused() <= 0.01
    assert server.rate(180, 260, "generated_tokens") >= 0.95 * 60


# Headers that lie

LIES = {
    "missing": {},
    "zero": {"x-ratelimit-limit-requests": "0", "x-ratelimit-limit-tokens-prompt": "0"},
    "negative": {"x-ratelimit-limit-requests": "-60"},
    "no number": {"x-ratelimit-limit-requests": "many", "x-ratelimit-limit-tokens-generated": "nan"},
    "infinite": {"x-ratelimit-limit-requests": "inf"},
    "too high": {"x-ratelimit-limit-requests": "600000", "x-ratelimit-limit-tokens-prompt": "1e11"},
    "less than one request": {"x-ratelimit-limit-tokens-prompt": "99", "x-ratelimit-limit-tokens-generated": "1"},
}


@pytest.mark.parametrize("headers", LIES.values(), ids=LIES)
def test_headers_that_lie_do_no_harm_to_a_run_with_limits(headers):
    """Whatever they say, what the user has set is kept and used, though one request was turned away in between."""
    server = Server(
        Window(600), headers=headers, trouble=lambda sent: (0.01, refusal(headers)) if sent.index == 5 else None
    )
    turned_away = Counter()

    def once(sent):
        if sent.index == 5 and not turned_away[5]:
            turned_away[5] += 1
            return 0.01, refusal(headers)
        return server(sent)

    server._trouble = lambda _: None
    engine = flow(once, 700, max_tokens=10, limits={"requests_per_minute": 600, "adaptive": False})
    assert nothing_lost(engine, 700)
    assert server.refused == []
    assert server.rate(10, 65) >= 0.95 * 10


def test_headers_count_for_nothing_until_a_request_is_turned_away():
    """They say 60 a minute, and nobody is turned away: the run is as fast as it may be."""
    server = Server(headers={"x-ratelimit-limit-requests": "60"})
    engine = flow(server, 300)
    assert nothing_lost(engine, 300)
    assert engine.ended_at < 5


def test_headers_that_are_too_low_are_obeyed_once_a_request_is_turned_away():
    """They say 120 a minute: it is what the run keeps to from then on."""
    headers = {"x-ratelimit-limit-requests": "120"}
    server = Server(headers=headers, trouble=lambda sent: (0.01, refusal(headers)) if sent.at < 0.001 else None)
    engine = flow(server, 300)
    assert nothing_lost(engine, 300)
    assert 60 * 300 / 120 * 0.6 <= engine.ended_at <= 60 * 300 / 120 * 1.1


def test_headers_may_not_raise_what_the_user_has_set():
    """They say 3,000 prompt tokens, then 60,000; the user 6,000: this is what is used in the end."""
    server = Server(
        Window(6000, "prompt_tokens"),
        headers=lambda sent: {"x-ratelimit-limit-tokens-prompt": "3000" if sent.at < 60 else "60000"},
        trouble=lambda sent: (0.01, refusal()) if sent.at < 1 else None,
    )
    engine = flow(server, 200, limits={"prompt_tokens_per_minute": 6000})
    assert nothing_lost(engine, 200)
    assert server.most_in_a_minute("prompt_tokens") <= 6000
    assert server.rate(5, 60, "prompt_tokens") <= 1.1 * 50
    assert server.rate(100, 140, "prompt_tokens") >= 0.9 * 100


def test_headers_that_change_all_the_time_lose_no_row():
    """Another number in each answer."""
    numbers = random.Random(1)
    server = Server(
        headers=lambda _: {"x-ratelimit-limit-requests": str(numbers.randint(200, 20_000))},
        trouble=lambda sent: (0.01, refusal()) if sent.at < 0.001 else None,
    )
    engine = flow(server, 300)
    assert nothing_lost(engine, 300)


# Several models


def by_model(**outcomes):
    """A script that answers for some models, by number, with an outcome, and serves all others."""
    server = Server()
    models = ("a", "b", "m")

    def script(sent):
        outcome = outcomes.get(models[sent.index % 3])
        return (0.01, outcome(sent)) if outcome else server(sent)

    return models, server, script


def test_a_model_that_is_missing_fails_its_rows_only():
    """404 for one of three: its rows are `not_found`, though nothing had succeeded before."""
    models, server, script = by_model(a=lambda _: unusable(404))
    engine = flow(script, 90, models=models)
    assert engine.pool.cause is None
    assert failures(engine) == {"not_found": 30}
    assert len(server.served) == 60


def test_a_model_that_is_throttled_for_ever_does_not_stop_the_others():
    """They are all served at once; then the run ends for the one, and its rows stay open."""
    models, server, script = by_model(a=lambda _: refusal({"retry-after": "89"}))
    engine = flow(script, 150, models=models, timeouts={"stall_s": 300})
    assert len(server.served) == 100
    assert server.served[-1].at < 5
    assert isinstance(engine.pool.cause, EndpointUnusable)
    assert set(engine.records) == {index for index in range(150) if index % 3}


@pytest.mark.parametrize("outcome", [refused, no_answer, server_error])
def test_a_model_that_is_down_for_a_minute_does_not_stop_the_others(outcome):
    """They are all served at once, and its own rows when it is back."""
    models, server, script = by_model(a=lambda sent: outcome() if sent.at < 60 else completion())
    engine = flow(script, 150, models=models, retry={"max_attempts": 20})
    assert nothing_lost(engine, 150)
    assert server.served[-1].at < 5
    assert 60 <= engine.ended_at < 130


def test_a_model_that_is_slow_has_its_own_ceiling():
    """One takes a single request at a time; the others are as fast as without it."""
    narrow = Server(Places(1), latency_s=0.5)
    models, server, script = by_model(a=narrow)
    engine = flow(
        lambda sent: narrow(sent) if sent.index % 3 == 0 else script(sent),
        150,
        models=models,
        limits={"concurrency": 32},
    )
    assert nothing_lost(engine, 150)
    assert server.served[-1].at < 10


# Outages

OUTAGES = {
    "silence": lambda: (30.0, no_answer()),
    "refused": lambda: (0.001, refused()),
    "broken": lambda: (0.05, no_answer()),
    "500": lambda: (0.01, server_error()),
    "502": lambda: (0.01, server_error(status_code=502)),
}


@pytest.mark.parametrize("limit", [None, rig(3000)], ids=["no limit", "a limit"])
@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES)
def test_an_outage_of_a_minute_is_waited_out(outage, limit):
    """No row is lost, few requests go out meanwhile, and ten seconds later the run is as fast as before."""
    server = Server(latency_s=0.5, trouble=lambda sent: outage() if 10 <= sent.at < 70 else None)
    limits = {"concurrency": 32, "requests_per_minute": limit}
    engine = flow(server, 1500, limits=limits)
    assert nothing_lost(engine, 1500)
    assert sum(server.came.values()) - 1500 <= 32 + 32 + 20
    full = min(64.0, limit / 60 if limit else math.inf)
    assert server.rate(5, 9) >= 0.95 * full
    assert server.rate(80, 85) >= 0.95 * full or server.served[-1].at < 85


@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES)
def test_an_outage_that_does_not_end_ends_the_run(outage):
    """After `stall_s`; what was not answered by then is open or failed, and nothing is asked a thousand times."""
    server = Server(trouble=lambda sent: outage() if sent.at >= 5 else None)
    engine = flow(server, 50_000, limits={"concurrency": 16}, timeouts={"stall_s": 200})
    assert isinstance(engine.pool.cause, EndpointUnusable)
    assert engine.ended_at <= 5 + 200 + 40
    assert sum(server.came.values()) - len(server.served) <= 16 + 200


def test_an_outage_at_the_very_beginning_of_the_answers_is_waited_out():
    """Only the first request was ever answered."""
    server = Server(trouble=lambda sent: (0.01, refused()) if sent.index and sent.at < 60 else None)
    engine = flow(server, 100, limits={"concurrency": 4})
    assert nothing_lost(engine, 100)


# The tail


@pytest.mark.parametrize("outcome", [refusal, refused, server_error], ids=["429", "refused", "500"])
def test_one_retrying_row_does_not_hold_up_the_others(outcome):
    """All but one are served as if it were not there; it is served when its time comes."""
    server = Server(trouble=lambda sent: (0.1, outcome()) if sent.index == 3 and sent.number <= 3 else None)
    engine = flow(server, 200, limits={"concurrency": 8, "adaptive": False})
    others = [one.at for one in server.served if one.index != 3]
    assert nothing_lost(engine, 200)
    assert max(others) <= 200 / 8 * 0.1 + 1.0
    assert server.came[3] == 4


def test_one_row_that_is_throttled_for_ever_at_the_tail_ends_by_itself():
    """The others are done; this one's endpoint says wait an hour, twice."""
    server = Server(trouble=lambda sent: (0.1, refusal({"retry-after": "3600"})) if sent.index == 99 else None)
    engine = flow(server, 100, limits={"concurrency": 8})
    assert engine.pool.cause is None
    assert failures(engine) == {"rate_limited": 1}
    assert 300 <= engine.ended_at <= 303


def test_rows_that_are_rejected_cost_nothing_of_a_budget():
    """A 400 was not served: the tokens that were reserved for it are there for others."""
    server = Server(Window(6000, "prompt_tokens"), trouble=lambda sent: (0.01, rejected()) if sent.index % 2 else None)
    engine = flow(server, 400, limits={"prompt_tokens_per_minute": 6000})
    assert failures(engine) == {"request_rejected": 200}
    assert server.refused == []
    assert engine.ended_at <= 200 * 60 / 60 / 0.95
