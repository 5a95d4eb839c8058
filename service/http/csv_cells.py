"""Texts in CSV that a spreadsheet must not take for formulas: names of machines and devices, which anybody may choose.

A text that begins with what a formula begins with gets an apostrophe before it, as OWASP has it ("CSV injection").
Numbers stay as they are; JSON, Arrow and Parquet have every name as it is.
"""

import pyarrow as pa
import pyarrow.compute as pc

FORMULA = ("=", "+", "-", "@", "\t", "\r")
_PATTERN = r"\A[=+\-@\t\r]"
_NAMES = ("group", "user", "user_id", "device")


def harmless(text: str | None) -> str | None:
    """The text as a cell may have it."""
    return f"'{text}" if text is not None and text.startswith(FORMULA) else text


def without_formulas(table: pa.Table) -> pa.Table:
    """The table with the names in it as cells may have them."""
    for name in _NAMES:
        if name in table.column_names and pa.types.is_string(table.schema.field(name).type):
            place, column = table.schema.get_field_index(name), table[name]
            marked = pc.binary_join_element_wise(pa.scalar("'"), column, "")
            is_formula = pc.fill_null(pc.match_substring_regex(column, _PATTERN), False)
            table = table.set_column(place, name, pc.if_else(is_formula, marked, column))
    return table
