"""A folder of texts: one a file, in folders named after their labels (the layout of aclImdb)."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.data.formats.lines import decode
from pipeline.data.formats.notices import Notices
from pipeline.data.formats.options import ReadOptions


def files_of(folder: str) -> list[Path]:
    """Its files, in the order of rows."""
    return sorted(Path(folder).glob("*/*.txt"))


def read_folder(folder: str, options: ReadOptions, notices: Notices) -> Iterator:
    """Columns text, label and file, then rows."""
    options.check_encodings()
    yield ["text", "label", "file"]
    fallback = options.encoding_fallback
    for number, path in enumerate(files_of(folder), 1):
        data = path.read_bytes()
        try:
            text = data.decode(options.encoding)
        except UnicodeDecodeError as error:
            problem = f"is not valid {options.encoding}: see byte {error.start} and {options.setting('encoding')}"
            if not fallback:
                yield number, problem
                continue
            try:
                text = decode(data, fallback)
            except UnicodeError:
                yield number, f"is valid neither as {options.encoding} nor as {fallback}"
                continue
            notices.add(f"files not valid {options.encoding}, read as {fallback}", str(path))
        # As text files are read, line ends are \n.
        text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        yield number, [text, path.parent.name, str(path.relative_to(folder))]
