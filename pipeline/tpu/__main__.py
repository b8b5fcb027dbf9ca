"""TPUs: check that a training step compiles and fits, and train on a slice.

python -m pipeline.tpu check v5e-8 --config bert_base --stage finetune --training.batch_size 256
python -m pipeline.tpu launch v5e-8 --config my.yaml --run_dir gs://bucket/run        prints what it would do
python -m pipeline.tpu launch v5e-8 --config my.yaml --run_dir gs://bucket/run --run  does it
python -m pipeline.tpu table                                                          the table of tpu_configs/README.md
"""

import argparse
import sys
from pathlib import Path

from pipeline.command_line import parse
from pipeline.errors import UserError
from pipeline.tpu.target import adapt, read_target, shipped_names


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, 1 for a step that is too large, 2 after one sentence on what is
    wrong, 130 after Ctrl-C."""
    options, rest = _parser().parse_known_args(arguments)
    try:
        return options.command(options, rest)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def check(options: argparse.Namespace, rest: list[str]) -> int:
    """Compile each training step of a config for a slice and print what it takes."""
    from pipeline.tpu import check as checking
    from pipeline.tpu.environment import compiler_python

    target = read_target(options.target)
    config = adapt(parse(rest), target)
    python = options.jax_python or compiler_python()
    status = 0
    for checked in checking.check(config, target, python, search=not options.no_search):
        print(checking.describe(checked, target), flush=True)
        if isinstance(checked.answer, checking.TooLarge):
            status = 1
    return status


def launch(options: argparse.Namespace, rest: list[str]) -> int:
    """Print the commands that train a config on a slice, or run them."""
    from pipeline.tpu.launch import Launch, run, script

    target = read_target(options.target)
    plan = Launch(
        target=target,
        config=adapt(parse(rest), target),
        name=options.name,
        zone=options.zone or target.zone,
        project=options.project,
        spot=target.spot if options.spot is None else options.spot,
    )
    if not options.run:
        print(script(plan))
        return 0
    return run(plan)


def table(options: argparse.Namespace, rest: list[str]) -> int:
    """Compile BERT-base's fine-tuning step for the shipped slices and write the table of tpu_configs/README.md."""
    from pipeline.tpu.environment import compiler_python
    from pipeline.tpu.table import write_table

    if rest:
        raise UserError(f"{rest[0]}: table takes the names of slices only.")
    return write_table(options.targets or shipped_names(), options.jax_python or compiler_python())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline.tpu", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    config_help = "All else is as for python -m pipeline.run: --config, --section.key value."

    def command(function, **kwargs) -> argparse.ArgumentParser:
        made = commands.add_parser(
            function.__name__, help=function.__doc__, description=function.__doc__, allow_abbrev=False, **kwargs
        )
        made.set_defaults(command=function)
        return made

    jax_python = {"type": Path, "help": "A Python with jax and libtpu; none: this one, or one made in the cache."}
    checker = command(check, epilog=config_help)
    checker.add_argument("target", help="A file of tpu_configs/, or its name.")
    checker.add_argument("--jax_python", **jax_python)
    checker.add_argument("--no_search", action="store_true", help="Too large: do not look for the batch that fits.")

    launcher = command(launch, epilog=config_help)
    launcher.add_argument("target", help="A file of tpu_configs/, or its name.")
    launcher.add_argument("--run", action="store_true", help="Run the commands; else they are only printed.")
    launcher.add_argument("--name", default="bert-pipeline", help="Of the queued resource and its node.")
    launcher.add_argument("--zone", help="In place of the file's.")
    launcher.add_argument("--project", help="Google Cloud project; none: gcloud's own setting.")
    launcher.add_argument("--spot", action=argparse.BooleanOptionalAction, help="In place of the file's.")

    tabler = command(table)
    tabler.add_argument("targets", nargs="*", help="Names of shipped files; none: all.")
    tabler.add_argument("--jax_python", **jax_python)
    return parser


if __name__ == "__main__":
    from pipeline.entry import run_command

    # launch runs gcloud, which asks questions.
    run_command(main, filtered=sys.argv[1:2] == ["check"])
