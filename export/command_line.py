"""The beginning of every command of export/."""

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
