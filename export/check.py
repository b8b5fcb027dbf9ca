"""Will TensorFlow Serving take an exported model, and will it answer as it was evaluated?

    python -m export.check RUN_OR_MODEL
    python -m export.check RUN_OR_MODEL --serving 2.19.1 --json

No server is needed. The graph is judged before anything of it is run. Then the model is loaded as a server loads it,
through TensorFlow's C API, without Python's TensorFlow, with the operations that the server links and XLA off, in a
process with limits of time and memory that may write no file. Its answers must be those recorded at export, and those
of each text alone whatever else is asked with it; what is written in saved_model.pb and beside it must keep the rules
of the server. To check with the very TensorFlow of a server:

    pip install --no-deps --target tf tensorflow==2.20.0 tensorflow-text==2.20.1
    python -m export.check RUN_OR_MODEL --tensorflow tf

The exit status is 0 where no rule is broken, 1 where one is, and 2 where there is no model to check.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from export.command_line import command_parser
from export.server.releases import NEWEST, libraries, parse_version
from export.server.sandbox import AT_EXPORT, Limits
from export.versions import ModelError, find_version
from pipeline.errors import UserError

if TYPE_CHECKING:
    from export.server.ask import Replies
    from export.server.memory import Memory
    from export.server.questions import Questions
    from export.server.rules.subject import Subject

LEFT_OUT = "left to python -m export.check: it takes too long for every export"


@dataclass(frozen=True)
class Finding:
    """What became of one rule."""

    rule: str
    asks: str
    """What the rule is, in a sentence."""
    result: Literal["ok", "failed", "not checked"]
    found: str


def check(
    model: str | os.PathLike,
    *,
    serving: str = NEWEST,
    tensorflow: Path | None = None,
    bytes_outputs: Sequence[str] = (),
    limits: Limits | None = None,
    at_export: bool = False,
) -> list[Finding]:
    """Try every rule of export/server/rules/ on a model.

    Its graph is judged first, and the model run only where that is safe, in a process of its own with bounds.

    Args:
        model: a version, a folder of versions of which the newest is taken, or a run directory.
        serving: the release of TensorFlow Serving that is to serve it.
        tensorflow: a folder with other TensorFlow libraries than the installed (`pip install --target`).
        bytes_outputs: outputs that REST clients shall get in base64.
        limits: of the process that runs it; None: `Limits()`.
        at_export: the folder is not yet called by its version, and what takes long is left out: memory, and requests
            that are cut at every place.

    Raises:
        ModelError: there is no model.
        FileNotFoundError: a library of TensorFlow is missing.
    """
    from export.graph import read_graph
    from export.server.ask import ask
    from export.server.questions import MEMORY_SECONDS, questions_for
    from export.server.rules.subject import Subject
    from export.server.safety import why_not_run

    folder = find_version(Path(model))
    graph = read_graph(folder)
    questions = questions_for(folder, graph, thorough=not at_export)
    replies = ask(
        folder,
        questions.calls,
        serving,
        tensorflow,
        limits,
        lambda registry: why_not_run(graph, registry),
        MEMORY_SECONDS if questions.ends_with_costly else None,
        questions.before_memory,
    )
    subject = Subject(
        folder,
        graph,
        replies,
        questions,
        LEFT_OUT if at_export else _memory(folder, questions, replies),
        published=not at_export,
        serving=serving,
        bytes_outputs=frozenset(bytes_outputs),
    )
    return _judged(subject)


def _judged(subject: "Subject") -> list[Finding]:
    """What every rule says."""
    from export.server import rules
    from export.server.rules.subject import Broken, NotChecked

    findings = []
    for rule in rules.RULES:
        try:
            result, found = "ok", rule(subject)
        except (Broken, ModelError) as broken:
            result, found = "failed", str(broken)
        except NotChecked as reason:
            result, found = "not checked", str(reason)
        findings.append(Finding(rule.__name__.replace("_", " "), (rule.__doc__ or "").strip(), result, found))
    return findings


def _memory(folder: Path, questions: "Questions", replies: "Replies") -> "Memory | str":
    """As Subject.memory has it."""
    from export.server.memory import memory_from

    first = questions.before_memory
    if replies.error or len(replies.peaks) <= first:
        return "it did not answer"
    names = [question.signature for question in questions.asked[first:]]
    own = replace(replies, answers=replies.answers[first:], peaks=replies.peaks[first:])
    try:
        return memory_from(folder, names, own)
    except ModelError as error:
        return str(error)


def require(folder: Path) -> None:
    """Refuse an export that breaks a rule, before it is published; prints what was not checked.

    Raises:
        UserError: what is broken.
    """
    try:
        findings = check(folder, at_export=True, limits=AT_EXPORT)
    except FileNotFoundError as error:
        print(f"note: the export was not checked as TensorFlow Serving would take it: {error}")
        return
    broken = [f"{finding.rule}: {finding.found}" for finding in findings if finding.result == "failed"]
    if broken:
        raise UserError(f"TensorFlow Serving would not serve the export as it should: {'; '.join(broken)}.")
    # That a version gets its number only now is no news.
    left = [finding.rule for finding in findings if finding.result != "ok" and finding.rule != "version folder"]
    if left:
        print(f"note: the export keeps the rules of TensorFlow Serving; not checked: {', '.join(left)} (export.check)")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = command_parser("export.check", __doc__)
    parser.add_argument("model", help="run directory, directory of versions, or one version")
    parser.add_argument("--serving", default=NEWEST, metavar="VERSION", help="TensorFlow Serving's release that is to "
                        f"serve the model (default: {NEWEST})")  # fmt: skip
    parser.add_argument("--tensorflow", type=Path, metavar="FOLDER", help="with other libraries than the installed "
                        "ones: a folder of pip install --target")  # fmt: skip
    parser.add_argument("--bytes-output", action="append", default=[], metavar="NAME", help="an output called *_bytes "
                        "that REST clients shall get in base64; may be repeated")  # fmt: skip
    parser.add_argument("--timeout", type=float, default=Limits.seconds, metavar="SECONDS", help="that loading, or one "
                        f"request, may take (default: {Limits.seconds:g})")  # fmt: skip
    parser.add_argument("--memory", type=float, default=Limits.memory_bytes / 2**30, metavar="GIB", help="that the "
                        f"model may allocate (default: {Limits.memory_bytes / 2**30:g})")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    try:
        for name in ("timeout", "memory"):
            if not 0 < getattr(options, name) < 1e6:
                raise ValueError(f"--{name} {getattr(options, name):g}: it must be above 0.")
        parse_version(options.serving)
        libraries(options.serving, options.tensorflow)
        version = find_version(options.model)
        findings = check(
            version,
            serving=options.serving,
            tensorflow=options.tensorflow,
            bytes_outputs=options.bytes_output,
            limits=Limits(options.timeout, int(options.memory * 2**30)),
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed = [finding.rule for finding in findings if finding.result == "failed"]
    if options.json:
        content = {"model": str(version), "ok": not failed, "rules": [asdict(finding) for finding in findings]}
        print(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        _print_table(findings)
        print(f"{version}: {'broken: ' + ', '.join(failed) if failed else 'no rule is broken'}")
    return 1 if failed else 0


def _print_table(findings: list[Finding]) -> None:
    width = max(len(finding.rule) for finding in findings)
    for finding in findings:
        # One line a rule, whatever an error's text holds, in any encoding of the terminal.
        found = " ".join(finding.found.split())
        line = f"{finding.result:<13}{finding.rule:<{width + 2}}{found}"
        if finding.result == "failed":
            line += f"\n{'':<13}{'':<{width + 2}}(the rule: {finding.asks})"
        encoding = sys.stdout.encoding or "utf-8"
        print(line.encode(encoding, "replace").decode(encoding))


if __name__ == "__main__":
    from pipeline.entry import run_command

    run_command(main)
