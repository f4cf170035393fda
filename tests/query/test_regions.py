"""Regions of a recording as they are typed and as they are given, and every kind that makes no sense."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marssep.errors import UsageError
from marssep.query import Query, check_regions, describe_region, parse_regions


@pytest.mark.parametrize(
    ("typed", "regions"),
    [
        ("0:03-0:05", ((3.0, 5.0),)),
        ("3-5.5", ((3.0, 5.5),)),
        ("1:02:03.25-1:02:05", ((3723.25, 3725.0),)),
        (" 0:03 - 0:05 , 1:00-1:01", ((3.0, 5.0), (60.0, 61.0))),
        ("75-1:17", ((75.0, 77.0),)),
    ],
)
def test_regions_are_read_as_people_write_times(typed, regions):
    assert parse_regions(typed) == regions


@pytest.mark.parametrize("typed", ["", "3", "3-", "-3-5", "3-5-7", "a-b", "0:3:4:5-9", "3-5,", "nan-inf", "3 5"])
def test_what_is_no_region_is_refused_with_the_form(typed):
    with pytest.raises(UsageError, match="is no region of a recording; give START-END"):
        parse_regions(typed)


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ((5, 3), "0:05-0:03 ends before it begins"),
        ((3, 3), "0:03-0:03 is empty"),
        ((-1, 3), "begins before the recording"),
        ((3, 3.05), "shorter than 0.1 s"),
        ((0, 61), "longer than 60 s"),
        ((float("nan"), 3), "in seconds"),
        ((3,), "in seconds"),
        ([(1, 2, 3)], "in seconds"),
    ],
)
def test_regions_that_make_no_sense(region, words):
    with pytest.raises(UsageError, match=words):
        check_regions(region)


@given(st.integers(0, 4 * 3600_000), st.integers(100, 60_000))
def test_a_described_region_reads_the_same(begin, length):
    region = (begin / 1000, (begin + length) / 1000)
    assert parse_regions(describe_region(region))[0] == pytest.approx(region, abs=1e-9)


def test_one_region_or_several():
    assert Query(like=(3, 5)).regions == ((3.0, 5.0),)
    assert Query(like=[(3, 5), (7, 8)]).regions == ((3.0, 5.0), (7.0, 8.0))
    assert Query(text="dog").regions == ()
    with pytest.raises(UsageError, match="ends before"):
        Query(text="dog", like=(5, 3))
    with pytest.raises(UsageError, match="nothing in it"):
        Query(like=[])
