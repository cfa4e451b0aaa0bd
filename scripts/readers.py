#!/usr/bin/env python3
"""Reads segments with pyarrow, DuckDB and Polars and compares every row with a JSONL dump.

    readers.py --expect EXPECTED.jsonl SEGMENT.parquet... [--reader pyarrow|duckdb|polars]

EXPECTED holds one JSON object a row with all columns of the segments: "id", "lsn", declared fields (timestamps in
microseconds since the Unix epoch, absent values null), "payload" (JSON text or null) and "vector" (numbers). Rows
of several segments are compared as one set by id; dead rows must be named with --dead ID, or left in the dump.
Vectors are compared bit for bit as 32-bit floats. Exits 0 and prints one line a reader, or 1 with the differences.
"""

import argparse
import json
import struct
import sys
from datetime import datetime, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def micros(value):
    """Timestamps of every reader as microseconds since the epoch."""
    if isinstance(value, datetime):
        value = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        delta = value - EPOCH
        return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
    return value


def bits(vector):
    """The bytes of a vector as 32-bit floats."""
    vector = list(vector)
    return struct.pack(f"<{len(vector)}f", *vector)


def with_pyarrow(paths):
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for path in paths:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
        vector = table.schema.field("vector").type
        assert pa.types.is_fixed_size_list(vector), f"pyarrow sees {vector}, not a fixed-size list"
        micro = [
            i for i, f in enumerate(table.schema) if pa.types.is_timestamp(f.type)
        ]
        for i in micro:
            name = table.schema.field(i).name
            table = table.set_column(i, name, table.column(i).cast(pa.int64()))
        tables.append(table)
    return [row for table in tables for row in table.to_pylist()]


def with_duckdb(paths):
    import duckdb

    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    columns = connection.execute("describe select * from read_parquet($1)", [paths]).fetchall()
    picks = [
        f'epoch_us("{name}") as "{name}"' if kind.startswith("TIMESTAMP") else f'"{name}"'
        for name, kind, *_ in columns
    ]
    rows = connection.execute(f"select {', '.join(picks)} from read_parquet($1)", [paths])
    names = [column[0] for column in rows.description]
    out = [dict(zip(names, row)) for row in rows.fetchall()]
    if out:
        # The search anybody can run over a segment: the first row is its own nearest neighbour.
        first = out[0]
        dim = len(first["vector"])
        if all(abs(x) < 1e18 for x in first["vector"]):
            nearest = connection.execute(
                f"select id from read_parquet($1) order by "
                f"array_distance(vector::FLOAT[{dim}], $2::FLOAT[{dim}]), id limit 1",
                [paths, first["vector"]],
            ).fetchall()
            assert nearest[0][0] == first["id"], f"nearest to {first['id']} is {nearest[0][0]}"
    return out


def with_polars(paths):
    import polars as pl

    out = []
    for path in paths:
        frame = pl.read_parquet(path)
        frame = frame.with_columns(
            pl.col(name).dt.epoch("us")
            for name, kind in frame.schema.items()
            if isinstance(kind, pl.Datetime)
        )
        out.extend(frame.to_dicts())
    return out


READERS = {"pyarrow": with_pyarrow, "duckdb": with_duckdb, "polars": with_polars}


def differences(rows, expected):
    """What differs, at most ten lines of it."""
    found = {row["id"]: row for row in rows}
    if len(found) != len(rows):
        yield f"{len(rows) - len(found)} ids are there twice"
    for missing in list(expected.keys() - found.keys())[:3]:
        yield f"id {missing!r} is missing"
    for extra in list(found.keys() - expected.keys())[:3]:
        yield f"id {extra!r} was not expected"
    for row_id in expected.keys() & found.keys():
        want, have = expected[row_id], found[row_id]
        if want.keys() != have.keys():
            yield f"id {row_id!r}: columns {sorted(have)} instead of {sorted(want)}"
            continue
        for name in want:
            a, b = want[name], micros(have[name])
            same = bits(a) == bits(b) if name == "vector" else a == b
            if not same:
                yield f"id {row_id!r}: {name} is {str(b)[:80]} instead of {str(a)[:80]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("segments", nargs="+")
    parser.add_argument("--expect", required=True)
    parser.add_argument("--dead", action="append", default=[], help="an id that a deletion vector hides")
    parser.add_argument("--reader", action="append", choices=sorted(READERS))
    arguments = parser.parse_args()
    with open(arguments.expect, encoding="utf-8") as lines:
        expected = {row["id"]: row for row in map(json.loads, lines)}
    failed = False
    for name in arguments.reader or READERS:
        rows = READERS[name](arguments.segments)
        rows = [row for row in rows if str(row["id"]) not in arguments.dead]
        wrong = [line for line, _ in zip(differences(rows, expected), range(10))]
        failed |= bool(wrong)
        print(f"{name}: {len(rows)} rows of {len(arguments.segments)} segments", "DIFFER" if wrong else "equal")
        for line in wrong:
            print("   ", line)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
