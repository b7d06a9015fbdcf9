"""The catalogue of malformed answers: each behaviour has a class, an error_type, an end in time, and harms no other."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import catalogue_http
import catalogue_json
import catalogue_refusals
import catalogue_sse
import pytest
from asking import endpoint, outcome
from catalogue import FORMS, Case, Form
from peers import CLOSE, READ, Peer, http, peer
from servers import ROOT

from batchrun.endpoint.http import MOST_BODY_BYTES
from batchrun.errors import EndpointError
from batchrun.types import Completion

if TYPE_CHECKING:
    from collections.abc import Iterator

CATALOGUES = {"HTTP": catalogue_http, "JSON": catalogue_json, "SSE": catalogue_sse, "refusals": catalogue_refusals}
COUNTS = {"HTTP": 250, "JSON": 450, "SSE": 220, "refusals": 350}
"""Fewer behaviours than these would be a loss; each is tried with both forms of a request."""

AT_ONCE = 40
"""Each behaviour takes a peer of its own, a thread or two and some file descriptors."""

END_S = 30
PAUSE_S = 0.1
"""For what a peer sends late and unasked: sent after the next request, nobody could tell it from the answer to that."""


def unexpected(form: Form, cases: dict[str, Case], at_once: int = AT_ONCE) -> dict[str, str]:
    """What is wrong with what came of these, by name."""
    names = list(cases)
    wrong: dict[str, str] = {}
    for at in range(0, len(names), at_once):
        some = {name: cases[name] for name in names[at : at + at_once]}
        with ExitStack() as stack:
            peers = {name: stack.enter_context(peer(*_scripts(form, one))) for name, one in some.items()}
            wrong |= asyncio.run(_tried(form, some, peers))
    return wrong


def _scripts(form: Form, one: Case) -> list[list[object]]:
    """What it does, and then a good answer. A stream that is refused is asked for once more, without its options."""
    return [one.script] * _most_requests(form, one) + [[READ, http(form.body), CLOSE]]


def _most_requests(form: Form, one: Case) -> int:
    refused = any(isinstance(step, bytes) and step[9:12] in {b"400", b"422"} for step in one.script)
    return 2 if form.stream and refused else 1


async def _tried(form: Form, cases: dict[str, Case], peers: dict[str, Peer]) -> dict[str, str]:
    async with asyncio.timeout(END_S):
        said = await asyncio.gather(*(_try(form, one, peers[name]) for name, one in cases.items()))
    return {name: text for name, text in zip(cases, said, strict=True) if text}


async def _try(form: Form, one: Case, there: Peer) -> str:
    """What is wrong with one outcome, and with the one of a good answer that follows it; nothing if all is right."""
    async with endpoint(there.base_url, **one.limits) as opened:
        try:
            first = await outcome(opened, stream=form.stream)
        except Exception as error:  # noqa: BLE001 (that is what must not happen)
            return f"raised {error!r}"
        complaints = [*_complaints(one, first)]
        if len(there.requests) > _most_requests(form, one):
            complaints.append(f"{len(there.requests)} requests were sent")
        if not one.limits:
            await asyncio.sleep(PAUSE_S)
            second = await outcome(opened, stream=form.stream)
            if getattr(second, "content", None) != "yes":
                complaints.append(f"what follows it came out as {second!r:.100}")
    return "; ".join(complaints)


def _complaints(one: Case, first: Completion | EndpointError) -> Iterator[str]:
    got = type(first), getattr(first, "error_type", None)
    if got not in one.outcomes:
        yield f"came out as {got[0].__name__} {got[1]}: {getattr(first, 'message', '')}"
    if isinstance(first, Completion) and one.content and first.content != one.content:
        yield f"says {first.content!r:.100}"
    if isinstance(first, EndpointError) and not (first.message.isprintable() and 0 < len(first.message) < 1000):
        yield f"its message is {first.message!r:.200}"
    if one.charged is not None and (first.usage is not None) is not one.charged:
        yield f"its usage is {first.usage}"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("catalogue", CATALOGUES)
def test_a_spread_of_behaviours_leads_to_what_the_catalogue_says(catalogue, form):
    """The short form: some of each chapter."""
    cases = CATALOGUES[catalogue].behaviours(FORMS[form])
    some = list(cases)[:: len(cases) // 25]
    assert unexpected(FORMS[form], {name: cases[name] for name in some if not cases[name].heavy}) == {}


@pytest.mark.rig
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("catalogue", CATALOGUES)
def test_every_behaviour_leads_to_what_the_catalogue_says(catalogue, form):
    """Class, error_type, usage and content; no second request; and the answer to the next request is its own."""
    cases = CATALOGUES[catalogue].behaviours(FORMS[form])
    light = {name: one for name, one in cases.items() if not one.heavy}
    wrong = unexpected(FORMS[form], light)
    wrong |= unexpected(FORMS[form], {name: cases[name] for name in cases.keys() - light.keys()}, at_once=1)
    sys.stdout.write(f"{catalogue}, {form}: {len(cases)} behaviours, {len(wrong)} unexpected\n")
    assert not wrong, "\n".join(f"{name}: {text}" for name, text in wrong.items())
    assert len(cases) >= COUNTS[catalogue]


HEAVY = """
import re, resource, sys
from pathlib import Path
from catalogue import FORMS
from test_endpoint_malformed import CATALOGUES, unexpected

def peak_mib():  # of this process alone: Linux hands ru_maxrss on from the parent
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)

before_mib = peak_mib()
for form in FORMS.values():
    for catalogue in CATALOGUES.values():
        for name, one in catalogue.behaviours(form).items():
            if one.heavy and (not form.stream or name in sys.argv):
                assert not unexpected(form, {name: one}), name
print(peak_mib() - before_mib)
"""
WORST = ["lines: endless lines of empty data", "ending: words for ever, at once", "chunks: endless chunks of a byte"]
"""Of the streams those that take the most memory for what is sent; the others take the same time again."""


@pytest.mark.rig
def test_the_heaviest_behaviours_take_no_more_than_a_few_times_the_cap():
    """In a process of its own, whose peak is what peers, behaviours and their tables took together."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    command = [sys.executable, "-c", HEAVY, *WORST]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    sys.stdout.write(f"peak: {float(done.stdout):.0f} MiB\n")
    assert MOST_BODY_BYTES >> 20 < float(done.stdout) < 6 * (MOST_BODY_BYTES >> 20)
