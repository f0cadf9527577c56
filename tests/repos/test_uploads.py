from __future__ import annotations

import threading

import pytest

from repos.uploads import Uploads


def test_alone_an_upload_is_done_at_once() -> None:
    done: list[int] = []
    Uploads().do(lambda: done.append(threading.get_ident()))
    assert done == [threading.get_ident()]


def test_together_they_overlap_and_all_are_done_at_the_end() -> None:
    uploads, meet, done = Uploads(), threading.Barrier(4, timeout=60.0), []

    def upload() -> None:
        meet.wait()
        done.append(1)

    with uploads.together():
        for _ in range(4):
            uploads.do(upload)
    assert len(done) == 4


def test_more_than_there_is_room_for() -> None:
    uploads, most, running, lock = Uploads(), 0, 0, threading.Lock()

    def upload() -> None:
        nonlocal most, running
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1

    with uploads.together():
        for _ in range(100):
            uploads.do(upload)
    assert (running, 0 < most <= 8) == (0, True)


def test_a_failure_shows_at_the_end_and_the_others_are_done() -> None:
    uploads, done = Uploads(), []

    def fail() -> None:
        raise ConnectionError("no store")

    with pytest.raises(ConnectionError, match="no store"), uploads.together():
        uploads.do(fail)
        uploads.do(lambda: done.append(1))
    assert done == [1]
    # And it can be used again.
    with uploads.together():
        uploads.do(lambda: done.append(2))
    assert done == [1, 2]


def test_what_goes_wrong_meanwhile_is_what_is_raised() -> None:
    uploads = Uploads()
    with pytest.raises(ValueError, match="encoding"), uploads.together():
        uploads.do(lambda: None)
        raise ValueError("encoding")
