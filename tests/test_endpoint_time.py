"""Every wait has an end, each kind its own; and what has arrived is not thrown away because we were slow ourselves."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest
import virtual_time
from asking import ask, endpoint, outcome, request
from peers import ANSWER, CLOSE, END_OF_CHUNKS, READ, chunked, for_ever, http, peer, sse
from waiting import until

from batchrun.endpoint import http as module
from batchrun.endpoint.deadline import Deadline
from batchrun.errors import Ambiguous, Throttled
from batchrun.types import Completion

BODY = json.dumps(ANSWER).encode()
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
SPACE = b"1\r\n \r\n"
LIMIT_S = 0.2
SOON_S = 5
AGE_S = 1000.0
FOR_AGES = dict.fromkeys(("first_byte_s", "idle_s", "attempt_s"), 10 * AGE_S)


def timed_out(script, message, **limits):
    """A peer with this script leads to a time-out with this message, long before anything else would end it."""
    began = time.monotonic()
    with peer(script) as there:
        error = ask(there.base_url, **limits)
    assert (type(error), error.error_type) == (Ambiguous, "timed_out"), error
    assert error.message == message
    assert time.monotonic() - began < SOON_S


def test_a_silent_peer_is_ended_by_the_first_byte_deadline():
    """It took the request and says nothing."""
    timed_out([READ], "no answer began within 0.2 s", first_byte_s=LIMIT_S)


def test_half_a_header_is_no_answer():
    """A drip of headers does not keep a request alive."""
    timed_out(
        [READ, b"HTTP/1.1 200 OK\r\n", for_ever(b"x: y\r\n", 0.05)],
        "no answer began within 0.2 s",
        first_byte_s=LIMIT_S,
    )


def test_endless_100_continue_is_no_answer():
    """However busily it comes."""
    script = [READ, for_ever(b"HTTP/1.1 100 Continue\r\n\r\n", 0.01)]
    timed_out(script, "no answer began within 0.2 s", first_byte_s=LIMIT_S)


def test_a_stalled_body_is_ended_by_the_idle_deadline():
    """Also where the first byte had much longer."""
    timed_out([READ, HEAD + SPACE], "nothing came for 0.2 s", idle_s=LIMIT_S, first_byte_s=9)


def test_a_body_that_stalls_after_a_while_is_ended_too():
    """Each piece moves the deadline, the silence after the last one ends it."""
    script = [READ, HEAD, 0.1, SPACE, 0.1, SPACE, 0.1, SPACE]
    timed_out(script, "nothing came for 0.3 s", idle_s=0.3, first_byte_s=9)


def test_a_drip_that_moves_is_left_alive():
    """It takes longer than the first byte and any silence may take, and is a good answer."""
    drip = [part for byte in (b" " * 8) for part in (0.05, SPACE)]
    with peer([READ, HEAD, *drip, chunked(BODY).partition(b"\r\n\r\n")[2] + END_OF_CHUNKS]) as there:
        answer = ask(there.base_url, first_byte_s=0.3, idle_s=0.3)
    assert isinstance(answer, Completion), answer
    assert answer.latency_s > 0.35


def test_an_endless_drip_is_ended_by_the_attempts_deadline():
    """It moves, but not for ever."""
    timed_out([READ, HEAD, for_ever(SPACE, 0.02)], "no whole answer within 0.3 s", attempt_s=0.3)


def test_a_row_may_have_less_time_than_an_attempt():
    """The caller says how much is left."""

    async def within(base_url):
        async with endpoint(base_url) as opened:
            began = time.monotonic()
            with pytest.raises(Ambiguous, match=r"no whole answer within 0\.2 s") as caught:
                await opened.complete(request(), within_s=LIMIT_S)
            return caught.value, time.monotonic() - began

    with peer([READ]) as there:
        error, after_s = asyncio.run(within(there.base_url))
    assert error.error_type == "timed_out"
    assert after_s < SOON_S


def test_a_429_whose_body_never_comes_is_a_429():
    """Its status says all that matters."""
    with peer([READ, http("", 429, length=100, retry_after="3")]) as there:
        error = ask(there.base_url, idle_s=LIMIT_S)
    assert (type(error), error.retry_after_s) == (Throttled, 3)


def test_the_clock_of_an_attempt_starts_when_it_has_a_connection(monkeypatch):
    """A connection may take longer to come about than the answer may: that wait has a limit of its own."""

    class Slow(module.Connector):
        async def _create_connection(self, *args, **kwargs):
            await asyncio.sleep(0.4)
            return await super()._create_connection(*args, **kwargs)

    monkeypatch.setattr(module, "Connector", Slow)
    with peer([READ, 0.05, http(ANSWER)]) as there:
        answer = ask(there.base_url, first_byte_s=0.3, attempt_s=0.35)
    assert isinstance(answer, Completion), answer
    assert answer.latency_s < 0.35


@pytest.mark.parametrize("size", [1, 5_000_000], ids=["small", "five megabytes"])
@pytest.mark.parametrize("stalls_s", [[0.4], [0.25, 0.25]], ids=["one stall", "two stalls"])
def test_an_answer_that_came_while_our_own_loop_stood_still_is_taken(size, stalls_s):
    """All deadlines have passed when the loop moves again, and the whole answer lies in the socket or is on its way."""
    body = json.dumps({"choices": [{"message": {"content": "x" * size}}]})

    async def main(there):
        async with endpoint(there.base_url, first_byte_s=LIMIT_S, idle_s=LIMIT_S, attempt_s=LIMIT_S) as opened:
            asking = asyncio.create_task(outcome(opened))
            await until(lambda: there.requests)
            for stall_s in stalls_s:
                time.sleep(stall_s)  # noqa: ASYNC251 (that is the point)
                await asyncio.sleep(0)
            answer = await asking
            return type(answer), len(getattr(answer, "content", ""))

    with peer([READ, 0.02, http(body)]) as there:
        assert asyncio.run(main(there)) == (Completion, size)


class Hasty(asyncio.SelectorEventLoop):
    """A loop whose clock may be put forward, in place of work that takes long."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


def put_forward():
    """An age passes at once."""
    asyncio.get_running_loop().ahead_s += AGE_S


@pytest.mark.parametrize("stream", [False, True])
def test_a_row_that_waits_for_another_ones_turn_is_not_charged_the_time(stream):
    """Two answers come in the same moment: both ended then, and not when the loop came to each of them."""
    barrier = threading.Barrier(3, timeout=SOON_S)
    event = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}
    answer = http(sse(event), content_type="text/event-stream") if stream else http(ANSWER)
    script = [READ, lambda _: barrier.wait(), answer, lambda _: barrier.wait()]

    async def one(opened, index):
        completion = await outcome(opened, index=index, stream=stream)
        put_forward()  # the other one waits
        return completion

    async def main():
        async with endpoint(there.base_url, **FOR_AGES) as opened:
            both = [asyncio.create_task(one(opened, index)) for index in range(2)]
            await until(lambda: len(there.requests) == 2)
            barrier.wait()  # they are answered
            barrier.wait()  # and both answers are there before the loop looks
            return [(await task).latency_s for task in both]

    with peer(script) as there, asyncio.Runner(loop_factory=Hasty) as runner:
        assert max(runner.run(main())) < AGE_S


def test_the_time_of_a_request_begins_when_it_leaves():
    """Requests leave when each task that is ready has had its turn: what others take until then is not the answer's."""

    async def main():
        async with endpoint(there.base_url, **FOR_AGES) as opened:
            await outcome(opened)  # so that there is a connection, and the next one is asked at once
            asking = asyncio.create_task(outcome(opened))
            asyncio.get_running_loop().call_soon(put_forward)
            return (await asking).latency_s

    with peer([READ, http(ANSWER), READ, http(ANSWER)]) as there, asyncio.Runner(loop_factory=Hasty) as runner:
        assert runner.run(main()) < AGE_S
    assert len(there.requests) == 2


def test_a_stalled_loop_does_not_keep_a_silent_peer_alive():
    """A stall earns a moment more, not an answer that never comes."""

    async def main(there):
        async with endpoint(there.base_url, first_byte_s=LIMIT_S) as opened:
            asking = asyncio.create_task(outcome(opened))
            await until(lambda: there.requests)
            time.sleep(0.4)  # noqa: ASYNC251 (that is the point)
            async with asyncio.timeout(SOON_S):
                return await asking

    with peer([READ]) as there:
        assert asyncio.run(main(there)).error_type == "timed_out"


def test_a_loop_that_always_stands_still_does_not_keep_a_silent_peer_alive():
    """Every timer comes late, in virtual time: after some graces the deadline holds all the same."""

    async def wait():
        with Deadline() as deadline:
            deadline.start(first_s=1, total_s=100)
            await asyncio.Event().wait()

    async def main():
        loop, waiting = asyncio.get_running_loop(), asyncio.create_task(wait())
        for _ in range(1000):
            loop._virtual.now += 0.7
            await asyncio.sleep(0)
            if waiting.done():
                break
        return waiting.done() and waiting.exception()

    assert isinstance(virtual_time.run(main()), TimeoutError)


def test_a_connection_that_was_idle_longer_than_any_deadline_is_used_again():
    """Its deadlines belong to the request, not to the connection."""

    async def main(there):
        async with endpoint(there.base_url, first_byte_s=LIMIT_S, idle_s=LIMIT_S, attempt_s=LIMIT_S) as opened:
            first = await outcome(opened)
            await asyncio.sleep(2 * LIMIT_S)
            second = await outcome(opened)
            return first, second, opened.free_retries

    with peer([READ, http(ANSWER), READ, http(ANSWER), CLOSE]) as there:
        first, second, free_retries = asyncio.run(main(there))
        assert there.connections == 1
    assert isinstance(first, Completion)
    assert isinstance(second, Completion), second
    assert free_retries == 0


# The deadline by itself, in virtual time


async def ended(deadline: Deadline, moves: list[tuple[float, float]], **times: float) -> tuple[float, str]:
    """When a block with these moves (after how long, which idle_s) ends, and why; it sleeps for ever at last."""
    loop = asyncio.get_running_loop()
    try:
        with deadline:
            deadline.start(**times)
            for after_s, idle_s in moves:
                await asyncio.sleep(after_s)
                deadline.moved(idle_s)
            await asyncio.sleep(10**6)
    except TimeoutError as error:
        return round(loop.time(), 3), str(error)
    raise AssertionError


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ([], (300, "no answer began within 300 s")),
        ([(299, 60)], (359, "nothing came for 60 s")),
        ([(1, 60)], (61, "nothing came for 60 s")),
        ([(1, 60), (59, 60), (59, 60)], (179, "nothing came for 60 s")),
        ([(1, 60)] * 100, (160, "nothing came for 60 s")),
        ([(50, 60)] * 20, (600, "no whole answer within 600 s")),
        ([(1, 60), (1, 5)], (7, "nothing came for 5 s")),
    ],
)
def test_each_move_sets_the_next_deadline(moves, expected):
    """Nearer or farther, never beyond the end."""

    async def main():
        return await ended(Deadline(), moves, first_s=300, total_s=600)

    assert virtual_time.run(main()) == expected


def test_time_does_not_run_before_the_start():
    """Whatever the block waits for before it sends."""

    async def main():
        with Deadline() as deadline:
            await asyncio.sleep(100)
            deadline.start(first_s=1, total_s=1)
            await asyncio.sleep(0.9)

    virtual_time.run(main())


def test_a_block_that_ends_in_time_is_not_ended_later():
    """Its timer may stay, and cancels nothing."""

    async def main():
        with Deadline() as deadline:
            deadline.start(first_s=1, total_s=1)
        await asyncio.sleep(100)

    virtual_time.run(main())


@pytest.mark.parametrize("first_s", [5, 300])
@pytest.mark.parametrize("before_s", [5, 300])
def test_a_deadline_that_is_used_again_keeps_the_new_times(before_s, first_s):
    """Nearer or farther than those before, whose timer is still there."""

    async def main():
        with Deadline() as deadline:
            deadline.start(first_s=before_s, total_s=600)
            await asyncio.sleep(1)
        return await ended(deadline, [], first_s=first_s, total_s=600)

    assert virtual_time.run(main()) == (1 + first_s, f"no answer began within {first_s} s")


def test_a_cancellation_from_outside_stays_one():
    """Also in the very moment in which the deadline passes."""

    async def main():
        asking = asyncio.create_task(ended(Deadline(), [], first_s=1, total_s=1))
        asyncio.get_running_loop().call_at(1, asking.cancel)
        with pytest.raises(asyncio.CancelledError):
            await asking

    virtual_time.run(main())


def test_a_deadline_that_has_passed_once_takes_no_cancellation_for_its_own():
    """It is used again, and ended from outside."""

    async def main():
        deadline = Deadline()
        await ended(deadline, [], first_s=1, total_s=1)
        asking = asyncio.create_task(ended(deadline, [], first_s=300, total_s=600))
        asyncio.get_running_loop().call_later(1, asking.cancel)
        with pytest.raises(asyncio.CancelledError):
            await asking

    virtual_time.run(main())


def test_another_error_in_the_moment_of_the_deadline_passes():
    """It says more than the time-out."""

    async def main():
        with Deadline() as deadline:
            deadline.start(first_s=1, total_s=1)
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                raise ZeroDivisionError from None

    with pytest.raises(ZeroDivisionError):
        virtual_time.run(main())


def test_a_deadline_needs_a_task():
    """There is nothing else that it could end."""

    async def main():
        failed = []

        def outside():
            try:
                Deadline().__enter__()
            except RuntimeError as error:
                failed.append(error)

        asyncio.get_running_loop().call_soon(outside)
        await asyncio.sleep(0)
        return len(failed)

    assert asyncio.run(main()) == 1
