"""The beginning of every command of export/, and what several take."""

import argparse


def command_parser(module: str, documentation: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m module`, whose help is the module's docstring: its first line, arguments, the rest."""
    summary, _, details = (documentation or "").partition("\n")
    return argparse.ArgumentParser(
        f"python -m {module}",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def count(word: str) -> int:
    """An argument's value that is a number of things, at least one."""
    if (value := int(word)) < 1:
        raise argparse.ArgumentTypeError(f"{word} is less than 1")
    return value


def share(word: str) -> float:
    """An argument's value from 0 to 1."""
    if not 0 <= (value := float(word)) <= 1:
        raise argparse.ArgumentTypeError(f"{word} is not between 0 and 1")
    return value
