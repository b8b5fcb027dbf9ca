"""Privacy, looked after from outside of a run.

    python -m pipeline.privacy scan FILE      what of persons is in a file, by kind
    python -m pipeline.privacy account RUN    what a private run claims, and the same recomputed from its records alone
    python -m pipeline.privacy audit RUN      how much a training like it tells at least, by an attack

Each command has a --help of its own.
"""

import sys

from export.command_line import command_parser
from pipeline.privacy import account, audit, scan

# Each takes its arguments and gives the exit status.
COMMANDS = {"scan": scan.main, "account": account.main, "audit": audit.main}


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, 2 after one sentence on what is wrong, or a command's own."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = command_parser("pipeline.privacy", __doc__)
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args(words[:1]).command
    return COMMANDS[command](words[1:])


if __name__ == "__main__":
    from pipeline.entry import run_command

    run_command(main)
