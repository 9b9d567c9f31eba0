"""The order of very many rows: what it was before, and without a table of them."""

import tracemalloc

from avssl.clips.requests import train_requests


def test_the_order_of_a_run_stays_what_it_was():
    """A run that resumes with another version must train on the same videos."""
    few = train_requests(1000, 64, 0, 15)  # the batch in which the second pass begins
    assert few.videos[[0, 39, 40, 63]].tolist() == [915, 574, 812, 15]
    assert few.numbers[[0, 39, 40, 63]].tolist() == [0, 0, 1, 1]
    many = train_requests(10**8, 1024, 3, 97_656)
    assert many.videos[:4].tolist() == [33585576, 74529181, 32433799, 98028465]
    assert int(many.videos.sum()) == 50_282_947_114
    assert many.numbers[[0, -1]].tolist() == [0, 1]


def test_the_order_of_many_rows_needs_no_memory_for_each():
    tracemalloc.start()
    try:
        train_requests(10**9, 1024, 0, 12_345)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
