"""How files of rows are read: the same settings in training, prediction, comparison and client."""

import argparse
from dataclasses import dataclass

from pipeline.errors import UserError

# As shells and YAML pass them on.
SPELLED_OUT = {"\\t": "\t", "tab": "\t"}


@dataclass(frozen=True)
class ReadOptions:
    """Settings of a reader.

    Attributes:
        format: a name in FORMATS; None: from the file's name.
        encoding: character encoding of text formats.
        encoding_fallback: encoding of a line (of a folder of texts: a file) that is not valid in `encoding`.
        delimiter, quote, escape: of csv and tsv, one character each; None: the format's own. An empty quote makes
            quotation marks ordinary text.
        column_names: of a csv or tsv file without a header line.
        prefix: what stands before these names in messages, such as "data." or "--".
    """

    format: str | None = None
    encoding: str = "utf-8"
    encoding_fallback: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None
    column_names: list[str] | None = None
    prefix: str = "--"

    def setting(self, name: str) -> str:
        """What the user calls a setting. On command lines, --format is the format of the answers."""
        return "--input_format" if (self.prefix, name) == ("--", "format") else f"{self.prefix}{name}"

    def character(self, name: str) -> str | None:
        """The delimiter, quote or escape.

        Raises:
            UserError: it is not one character.
        """
        value = getattr(self, name)
        value = SPELLED_OUT.get(value, value)
        if value is None or len(value) == 1 or (name == "quote" and value == ""):
            return value
        raise UserError(f"{self.setting(name)} {value!r}: give one character.")

    def check_encodings(self) -> None:
        """Refuse what Python cannot decode.

        Raises:
            UserError: naming the setting.
        """
        for name in ("encoding", "encoding_fallback"):
            value = getattr(self, name)
            try:
                "a".encode(value or "utf-8")
            except LookupError as error:
                raise UserError(f"{self.setting(name)} {value!r} is not an encoding that Python knows.") from error
        if self.encoding_fallback and not keeps_ascii(self.encoding):
            raise UserError(
                f"{self.setting('encoding_fallback')} goes with encodings that extend ASCII, not {self.encoding}."
            )


def keeps_ascii(encoding: str) -> bool:
    """Whether the bytes of ASCII stand for themselves: not so in UTF-16 and UTF-32."""
    return b"a,\n".decode(encoding, "replace") == "a,\n"


def add_read_arguments(parser: argparse.ArgumentParser) -> None:
    """The reader's settings as options of a command, with underscores or hyphens."""

    def add(name: str, help: str, **settings) -> None:
        parser.add_argument(f"--{name}", *{f"--{name.replace('_', '-')}"} - {f"--{name}"}, help=help, **settings)

    add("input_format", "of the file (default: from its name)", metavar="FORMAT")
    add("encoding", "of text formats (default: the one trained with, or utf-8)")
    add("encoding_fallback", "encoding of lines that are not valid in --encoding (default: as trained, or none)")
    add("delimiter", "between the cells of a csv or tsv (default: as trained, or the format's own)")
    add("quote", "around cells of a csv or tsv; '': quotation marks are text (default: as --delimiter)")
    add("escape", "before a quote or delimiter that is text, such as \\ (default: as trained, or none)")
    add("column_names", "names of the columns of a csv or tsv without header line, with commas between")


def options_of(arguments: argparse.Namespace) -> ReadOptions:
    """The settings that parsed arguments of add_read_arguments give."""
    names = arguments.column_names
    return ReadOptions(
        format=arguments.input_format,
        encoding=arguments.encoding or "utf-8",
        encoding_fallback=arguments.encoding_fallback,
        delimiter=arguments.delimiter,
        quote=arguments.quote,
        escape=arguments.escape,
        column_names=None if names is None else [name.strip() for name in names.split(",")],
    )
