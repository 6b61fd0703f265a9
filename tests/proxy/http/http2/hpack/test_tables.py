"""The static table is that of RFC 7541 appendix A; a dynamic table evicts its oldest fields."""

import pytest
from hpack.table import HeaderTable
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.errors import CompressionError
from maesh_core.proxy.http.http2.hpack.tables import DEFAULT_TABLE_SIZE, STATIC_TABLE, DynamicTable, is_secret


def insert(table, name, value):
    table.insert((name, value), len(name) + len(value) + 32)


def list_fields(table):
    return [table.find(62 + index) for index in range(len(table))]


def test_the_static_table_is_that_of_the_standard():
    assert (*STATIC_TABLE[1:],) == HeaderTable.STATIC_TABLE
    assert DynamicTable().find(2) == (b":method", b"GET")
    assert DynamicTable().find(61) == (b"www-authenticate", b"")


def test_the_newest_field_has_the_first_index_behind_the_static_table():
    table = DynamicTable()
    insert(table, b"a", b"1")
    insert(table, b"b", b"2")
    assert list_fields(table) == [(b"b", b"2"), (b"a", b"1")]
    assert (len(table), table.size, table.max_size) == (2, 68, DEFAULT_TABLE_SIZE)
    assert repr(table) == "<DynamicTable 2 fields, 68 of 4096 bytes>"


@pytest.mark.parametrize("index", [0, 63, 64, 2**31 - 1])
def test_an_index_beyond_the_tables_is_refused(index):
    table = DynamicTable()
    insert(table, b"a", b"1")
    with pytest.raises(CompressionError):
        table.find(index)


def test_the_index_of_an_evicted_field_is_refused():
    table = DynamicTable()
    table.resize(70)
    for value in (b"1", b"2", b"3"):
        insert(table, b"a", value)
    assert list_fields(table) == [(b"a", b"3"), (b"a", b"2")]
    with pytest.raises(CompressionError):
        table.find(64)


def test_a_field_that_is_larger_than_the_table_empties_it():
    table = DynamicTable()
    insert(table, b"a", b"1")
    insert(table, b"a", bytes(DEFAULT_TABLE_SIZE))
    assert (len(table), table.size) == (0, 0)


def test_evicted_fields_are_not_kept():
    table = DynamicTable()
    for number in range(10_000):
        insert(table, b"a", b"%d" % number)
    assert len(table._entries) < len(table) + 64
    assert sum(entry is not None for entry in table._entries) == len(table)


@given(
    st.lists(
        st.tuples(st.just(True), st.integers(0, 300)) | st.tuples(st.just(False), st.integers(0, 5000)), max_size=300
    )
)
def test_a_table_has_the_fields_that_a_stranger_has(steps):
    table, stranger = DynamicTable(), HeaderTable()
    for number, (is_field, size) in enumerate(steps):
        if is_field:
            insert(table, b"%d" % number, bytes(size))
            stranger.add(b"%d" % number, bytes(size))
        else:
            table.resize(size)
            stranger.maxsize = size
    assert list_fields(table) == [*stranger.dynamic_entries]
    assert table.size == stranger._current_size


@pytest.mark.parametrize(
    ("name", "value", "is_never_indexed"),
    [
        (b"authorization", b"", True),
        (b"proxy-authorization", b"x" * 100, True),
        (b"set-cookie", b"a=b", True),
        (b"cookie", b"x" * 19, True),
        (b"cookie", b"x" * 20, False),
        (b"accept", b"", False),
    ],
)
def test_credentials_and_short_cookies_are_secret(name, value, is_never_indexed):
    assert is_secret(name, value) is is_never_indexed
