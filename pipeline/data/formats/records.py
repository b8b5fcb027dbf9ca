"""Records (dicts) that need not all have the same keys, as rows of columns."""

import itertools
from collections.abc import Iterator

# Records at the beginning of a file that tell its columns.
LOOKAHEAD = 1000


def rows_of(records: Iterator[tuple[int, dict | str]], wanted: list[str] | None) -> Iterator:
    """Columns, then rows; the cell of a key that a record lacks is None.

    A column is missing where none of the first 1,000 records has it. Columns that only later records have are appended
    to the list that was yielded, unless columns are wanted.
    """
    head = list(itertools.islice(records, LOOKAHEAD))
    seen = [record for _, record in head if isinstance(record, dict)]
    found = {name.strip(): None for record in seen for name in record}
    columns = list(found)
    if wanted is not None and (not seen or found.keys() >= set(wanted)):
        columns = list(wanted)
    yield columns
    for number, record in itertools.chain(head, records):
        if isinstance(record, str):
            yield number, record
            continue
        if not record.keys() <= found.keys():
            # A name that is new, or has white space at its ends.
            record = {name.strip(): value for name, value in record.items()}
            new = {name: None for name in record if name not in found}
            columns += new if wanted is None else ()
            found.update(new)
        yield number, [record.get(name) for name in columns]
