"""Files of rows in every format, read and written once for training, prediction, comparison and the client.

A format is a function in a file of this folder and a line in `table.FORMATS`. Nothing here knows of training, and
TensorFlow is imported only where TFRecord files are read.
"""

from pipeline.data.formats.cells import (
    NO_TEXT,
    Nothing,
    as_text,
    encodable,
    escaped,
    looks_misread,
    printable,
    text_of,
)
from pipeline.data.formats.compression import opened
from pipeline.data.formats.lines import cells_of, text_writer
from pipeline.data.formats.notices import Notices
from pipeline.data.formats.options import ReadOptions, add_read_arguments, options_of
from pipeline.data.formats.table import (
    FORMATS,
    Table,
    count_rows,
    format_by_name,
    format_of,
    open_table,
    placer,
    suffixes,
)
from pipeline.data.formats.whole import whole_file

__all__ = [
    "FORMATS",
    "NO_TEXT",
    "Nothing",
    "Notices",
    "ReadOptions",
    "Table",
    "add_read_arguments",
    "as_text",
    "cells_of",
    "count_rows",
    "encodable",
    "escaped",
    "format_by_name",
    "format_of",
    "looks_misread",
    "open_table",
    "opened",
    "options_of",
    "placer",
    "printable",
    "suffixes",
    "text_of",
    "text_writer",
    "whole_file",
]
