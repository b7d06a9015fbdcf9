"""The store against a process that ends, and a system that refuses, at every call in turn: nothing kept is lost."""

from __future__ import annotations

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from promises import (
    ROWS,
    Keeping,
    Told,
    all_succeed,
    assert_done,
    assert_kept,
    compacting,
    copied,
    driven,
    quick_folder,
    some_records,
)
from system_calls import STRIKES, Fault, names_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from promises import Run

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
AT_ONCE = 4
"""Trials wait more than they work."""


class Scene(NamedTuple):
    """What is there before the start that a fault strikes, what was told so far, and that start."""

    path: Path
    told: Told
    run: Run


class Trial(NamedTuple):
    """A fault in a scene."""

    scene: Scene
    kind: str
    at: int


@pytest.fixture
def quick():
    """A folder in memory."""
    with quick_folder() as folder:
        yield folder


def fresh(folder: Path) -> Scene:
    """Nothing is there."""
    path = Path(tempfile.mkdtemp(dir=folder)) / "nothing"
    path.mkdir()
    return Scene(path, Told(), Keeping(some_records()))


def killed(folder: Path) -> Scene:
    """A first start was killed when it had kept most rows."""
    folder = Path(tempfile.mkdtemp(dir=folder))
    path = folder / "killed"
    calls = names_of(folder, lambda: Keeping(some_records())(folder / "counted", Told()))
    told = driven(path, Keeping(some_records()), Fault("kill before", len(calls) * 3 // 5))
    return Scene(path, told, Keeping(all_succeed()))


def killed_in_recovery(folder: Path) -> Scene:
    """And a second one when it had just made a part of what the first left, and not yet an entry."""
    before = killed(folder)
    folder = before.path.parent
    path = copied(before.path, folder / "killed-again")
    names = names_of(folder, lambda: Keeping([])(copied(before.path, folder / "counted-again"), Told()))
    told = driven(path, Keeping([]), Fault("kill after", len(names) - names[::-1].index("rename")))
    return Scene(path, before.told | told, Keeping(all_succeed()))


def with_failures(folder: Path) -> Scene:
    """A first start ended well, with failures, all of which succeed now: their part goes."""
    path = Path(tempfile.mkdtemp(dir=folder)) / "failures"
    return Scene(path, driven(path, Keeping(some_records())), Keeping(all_succeed()))


def compacted(folder: Path) -> Scene:
    """A first start ended well, and its parts are merged."""
    return with_failures(folder)._replace(run=compacting)


SCENES = (fresh, killed, killed_in_recovery, with_failures, compacted)


def calls_of(scene: Scene) -> list[str]:
    """The calls that the start takes when nothing strikes it."""
    with quick_folder() as folder:
        path = copied(scene.path, folder / "out")
        return names_of(folder, lambda: scene.run(path, Told()))


def trials_of(scene: Scene, kinds: Iterable[str] = STRIKES) -> Iterator[Trial]:
    """Every call, and each fault that can strike it."""
    for at, name in enumerate(calls_of(scene), 1):
        yield from (Trial(scene, kind, at) for kind in kinds if name in STRIKES[kind])


def strike(trial: Trial) -> None:
    """Strike a start, then give the same command again and again: nothing kept is lost, and then all is there."""
    with quick_folder() as folder:
        path = copied(trial.scene.path, folder / "out")
        try:
            told = driven(path, trial.scene.run, Fault(trial.kind, trial.at))
            assert_kept(path, trial.scene.told, told)
            assert_done(path, trial.scene.told | told)
        except Exception as error:
            raise AssertionError(f"{trial.scene.path.name}, {trial.kind} at call {trial.at}: {error}") from error


def strike_all(trials: Iterable[Trial]) -> int:
    """Some at once; how many they were."""
    with ProcessPoolExecutor(AT_ONCE, multiprocessing.get_context("fork")) as pool:
        return len(list(pool.map(strike, list(trials), chunksize=8)))


def test_a_run_without_faults_keeps_every_row_once(quick):
    """The driver itself: all rows are handed over and kept, and a second start succeeds where the first failed."""
    told = driven(quick / "out", Keeping(some_records()))
    assert {index for index, _ in told.kept} == set(range(ROWS))
    assert_kept(quick / "out", Told(), told)
    assert_done(quick / "out", told)


@pytest.mark.parametrize("scene", SCENES)
def test_a_fault_at_some_calls_loses_nothing(quick, scene):
    """The short form: some of the trials."""
    for trial in islice(trials_of(scene(quick)), 7, None, 131):
        strike(trial)


def whole_hundreds(count: int) -> int:
    """What is said of a count: a busy machine makes a few more groups or fewer, and so a few more calls or fewer."""
    return count // 100 * 100


@pytest.mark.rig
def test_a_fault_at_any_call_loses_nothing(quick, reached):
    """The long form: every call of every kind of start, and each way to fail; the rarer starts meet the worst three."""
    trials = [trial for scene in (fresh, killed, with_failures) for trial in trials_of(scene(quick))]
    kinds = ["kill before", "kill after", "input/output errors"]
    trials += [trial for scene in (killed_in_recovery, compacted) for trial in trials_of(scene(quick), kinds)]
    reached("T1", "faults at every call of a start", whole_hundreds(strike_all(trials)), at_least=1500)


@pytest.mark.rig
def test_a_kill_while_failures_leave_and_another_in_the_recovery_lose_nothing(quick, reached):
    """A start is killed at every third of the calls by which failures leave, and the next at each of its own."""
    before = with_failures(quick)
    calls = calls_of(before)
    trials: list[Trial] = []
    for at in range(len(calls) * 2 // 3, len(calls) + 1, 3):
        path = copied(before.path, quick / f"killed-at-{at}")
        told = before.told | driven(path, Keeping(all_succeed()), Fault("kill before", at))
        trials += trials_of(Scene(path, told, Keeping([])), ["kill before"])
    reached("T1", "kills in the recovery from a kill", whole_hundreds(strike_all(trials)), at_least=200)
