"""The ledger: what is written is read again, and nothing else is believed."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gkd_plugin.errors import UserError
from gkd_plugin.study.ledger import Entry, Ledger, group_failures, read_time


def begun(name: str = "a", session: str = "s1", attempts: int = 1) -> Entry:
    entry = Entry(name)
    for _ in range(attempts):
        entry = entry.begin(session, "d" * 64, 2)
    return entry


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    ended = begun().end(
        "failed", "no\nreason", metric="auc", better=True, val=0.75, failures={"2": "why"}, traceback="t", notes=("n",)
    )
    ledger.write(ended)
    assert ledger.read("a") == ended
    assert json.loads((tmp_path / "ledger" / "a.json").read_text())["failures"] == {"2": "why"}
    assert ledger.entries() == [ended] and os.listdir(ledger.folder) == ["a.json"]
    assert ended.seconds >= 0 and ended.pid == os.getpid() and ended.repeat == 2


def test_attempts_are_counted_within_a_session() -> None:
    assert begun(attempts=3).attempts == 3
    assert begun(attempts=3).begin("s2", "d", 1).attempts == 1


def test_a_new_begin_keeps_nothing_of_the_end_before() -> None:
    again = begun().end("failed", "why", val=0.5, traceback="t").begin("s2", "e", 3)
    assert (again.state, again.reason, again.val, again.traceback, again.ended) == ("running", None, None, None, None)
    assert (again.digest, again.repeat, again.session) == ("e", 3, "s2")


def test_a_run_without_a_file_is_pending(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "none").read("a") == Entry("a") and Ledger(tmp_path / "none").entries() == []


GOOD = '{"name": "a", "state": "done"'
DAMAGED = {
    "empty": b"",
    "torn": b'{"name": "a", "sta',
    "no text": b"\xff\xfe\x00",
    "another kind": b"[1, 2]",
    "of another run": b'{"name": "b", "state": "done"}',
    "no name": b'{"state": "done"}',
    "an unknown state": b'{"name": "a", "state": "half"}',
    "a number for words": f'{GOOD}, "reason": 3}}'.encode(),
    "words for a number": f'{GOOD}, "attempts": "many"}}'.encode(),
    "a truth for a number": f'{GOOD}, "pid": true}}'.encode(),
    "no time": f'{GOOD}, "started": "yesterday"}}'.encode(),
    "notes that are none": f'{GOOD}, "notes": [1]}}'.encode(),
    "notes that are no list": f'{GOOD}, "notes": "why"}}'.encode(),
    "a list of failures": f'{GOOD}, "failures": ["why"]}}'.encode(),
    "nested deeply": b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_or_foreign_file_is_said_and_pending(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "a.json").write_bytes(content)
    for _ in range(2):
        assert Ledger(tmp_path).read("a") == Entry("a")
    (line,) = capsys.readouterr().err.splitlines()  # once
    assert line.startswith(f"warning: {tmp_path / 'a.json'} is not used") and "Error" not in line


def test_keys_of_later_versions_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(f'{GOOD}, "colour": "red"}}')
    assert Ledger(tmp_path).read("a") == Entry("a", "done")


@pytest.mark.parametrize("name", ["", "../a", "a/b", "a\\b", "/etc/x", "a\0b", "x" * 300, "é" * 130])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    ledger = Ledger(tmp_path / "ledger")
    for use in (ledger.read, lambda name: ledger.write(Entry(name))):
        with pytest.raises(UserError, match="cannot be the name of a file"):
            use(name)
    assert os.listdir(tmp_path) == []


@given(st.text(min_size=1, max_size=40))
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    try:
        path = Ledger(Path("/study/ledger")).find(name)
    except (UserError, UnicodeEncodeError):
        return
    assert os.path.dirname(os.path.normpath(path)) == "/study/ledger"


def test_only_what_this_session_left_running_is_marked(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for entry in (begun("a"), begun("b").end("done"), begun("c", session="s2"), begun("d")):
        ledger.write(entry)
    marked = ledger.mark_interrupted("abc", "s1")
    assert [(entry.name, entry.state) for entry in marked] == [("a", "interrupted")]
    assert [entry.state for entry in ledger.entries()] == ["interrupted", "done", "running", "running"]


def test_what_failed_for_one_reason_is_said_once() -> None:
    entries = [Entry(name, "failed", reason=why) for name, why in (("a", "x"), ("b", "y"), ("c", "x"), ("d", "x"))]
    found = group_failures([Entry("0", "done"), *entries])
    assert [(entry.name, more) for entry, more in found] == [("a", 2), ("b", 0)]


def test_a_run_takes_as_long_as_it_takes_whatever_the_clock_shows() -> None:
    """An hour is set back in between: as written, the end lies before the start."""
    first, last = "2026-10-25T02:50:00+02:00", "2026-10-25T02:10:00+01:00"
    assert (read_time(last) - read_time(first)).total_seconds() == 20 * 60
    begun = Entry("a").begin("s1", "d", 1)
    assert begun.started is not None and read_time(begun.started).utcoffset() is not None
    assert datetime.fromisoformat(begun.started).tzinfo is not None
    earlier = replace(begun, started=begun.started[:23])  # as earlier versions wrote it
    assert earlier.end("done").seconds < 60
