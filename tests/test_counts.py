"""The counts of the rigs: what is kept, and that a count that falls is a failure."""

from __future__ import annotations

import pytest
from counts import reach, read_counts


def test_a_count_is_kept_when_asked(tmp_path):
    """By rig, in the order of their numbers, beside what was kept before."""
    path = tmp_path / "counts.json"
    reach("T12", "runs", 81, 80, path=path, write=True)
    reach("T2", "states", 2100, 2000, path=path, write=True)
    reach("T2", "scenarios", 3, 1, path=path, write=True)
    assert list(read_counts(path).items()) == [("T2", {"states": 2100, "scenarios": 3}), ("T12", {"runs": 81})]


def test_nothing_is_written_otherwise(tmp_path):
    """An ordinary run leaves the tree as it is."""
    reach("T2", "states", 2100, 2000, path=tmp_path / "counts.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("count", "floor"), [(1999, "2,100"), (2099, "2,100")])
def test_a_count_that_falls_fails(tmp_path, count, floor):
    """Below what the programme asks for, and below what was reached before."""
    path = tmp_path / "counts.json"
    reach("T2", "states", 2100, 2000, path=path, write=True)
    with pytest.raises(AssertionError, match=f"T2: .* states; it has to reach {floor}"):
        reach("T2", "states", count, 2000, path=path)


def test_a_count_below_the_programme_is_not_kept(tmp_path):
    """`--write-counts` lowers what was reached, never what is asked for."""
    with pytest.raises(AssertionError, match="has to reach 2,000"):
        reach("T2", "states", 1999, 2000, path=tmp_path / "counts.json", write=True)
