"""A short rig against the store that is imported: `python mutant_trial.py T2 fresh` ends with 3 at the first bug."""

from __future__ import annotations

import sys
import warnings

import test_store_crash as t1
import test_store_model as t2
from promises import quick_folder

CAUGHT = 3
STATES = 120


def crash(folder, name):
    """T1: every kind of fault in one kind of start."""
    scene = next(scene for scene in t1.SCENES if scene.__name__ == name)(folder)
    trials = list(t1.trials_of(scene))
    yield from ((t1.strike, trial) for step in (7, 3, 0, 5) for trial in trials[step::11])


def model(folder, name):
    """T2: many states of one scene."""
    scene = next(scene for scene in t2.scenes(folder) if scene.name == name)
    yield from ((t2.check, state) for state in t2.states(scene, STATES, t2.stale_blocks(folder), seed=3))


def main(rig, name):
    """Say what was caught, if anything."""
    with quick_folder() as folder:
        trials = {"T1": crash, "T2": model}[rig](folder, name)
        for trial, state in trials:
            try:
                trial(state)
            except AssertionError as error:
                print(error)  # noqa: T201
                sys.exit(CAUGHT)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
