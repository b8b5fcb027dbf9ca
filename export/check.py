"""Will TensorFlow Serving take an exported model, and will it answer as it was evaluated?

    python -m export.check RUN_OR_MODEL
    python -m export.check RUN_OR_MODEL --serving 2.19.1 --json

No server is needed. The model is loaded as a server loads it, through TensorFlow's C API, without Python's TensorFlow,
with the operations that the server links and XLA off; its answers must be those recorded at export, and what is written
in saved_model.pb and beside it must keep the rules of the server. To check with the very TensorFlow of a server:

    pip install --no-deps --target tf tensorflow==2.20.0 tensorflow-text==2.20.1
    python -m export.check RUN_OR_MODEL --tensorflow tf

The exit status is 0 where no rule is broken, 1 where one is, and 2 where there is no model to check.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from export.command_line import command_parser
from export.server.releases import NEWEST, libraries, parse_version
from export.versions import ModelError, find_version
from pipeline.errors import UserError


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
    published: bool = True,
) -> list[Finding]:
    """Try every rule of export/server/rules/ on a model.

    Args:
        model: a version, a folder of versions of which the newest is taken, or a run directory.
        serving: the release of TensorFlow Serving that is to serve it.
        tensorflow: a folder with other TensorFlow libraries than the installed (`pip install --target`).
        bytes_outputs: outputs that REST clients shall get in base64.
        published: False: the folder is not yet called by its version.

    Raises:
        ModelError: there is no model.
        FileNotFoundError: a library of TensorFlow is missing.
    """
    from export.graph import read_graph
    from export.server import rules
    from export.server.ask import ask
    from export.server.rules.subject import Broken, NotChecked, Subject

    folder = find_version(Path(model))
    graph = read_graph(folder)
    questions = _questions(folder, graph)
    subject = Subject(
        folder,
        graph,
        ask(folder, [call for _, call in questions], serving, tensorflow),
        [purpose for purpose, _ in questions],
        serving,
        frozenset(bytes_outputs),
    )
    findings = []
    for rule in rules.RULES:
        if rule is rules.version_folder and not published:
            continue
        try:
            result, found = "ok", rule(subject)
        except (Broken, ModelError) as broken:
            result, found = "failed", str(broken)
        except NotChecked as reason:
            result, found = "not checked", str(reason)
        findings.append(Finding(rule.__name__.replace("_", " "), (rule.__doc__ or "").strip(), result, found))
    return findings


def require(folder: Path) -> None:
    """Refuse an export that breaks a rule, before it is published.

    Where TensorFlow's libraries are not called as those of Linux are, nothing is checked.

    Raises:
        UserError: what is broken.
    """
    try:
        findings = check(folder, published=False)
    except FileNotFoundError:
        return
    broken = [f"{finding.rule}: {finding.found}" for finding in findings if finding.result == "failed"]
    if broken:
        raise UserError(f"TensorFlow Serving would not serve the export as it should: {'; '.join(broken)}.")


def _questions(folder: Path, graph) -> list:
    """(purpose, call) of what to ask a server: the recorded texts, all in one batch and one by one, and the warm-up.

    What cannot be read or asked is left out: the rules say so.
    """
    import numpy as np

    from export.graph import signatures
    from export.recorded import read_recorded
    from export.warmup import inputs_of, read_warmup, serialized_examples

    wanted = signatures(graph)
    questions = []

    def put(purpose: str, name: str, inputs: dict, outputs: Sequence[str]) -> None:
        signature = wanted.get(name)
        if signature and set(inputs) == set(signature.inputs) and set(outputs) <= set(signature.outputs):
            feeds = {signature.inputs[key].name: value for key, value in inputs.items()}
            questions.append((purpose, (feeds, [signature.outputs[key].name for key in outputs])))

    try:
        recorded = read_recorded(folder)
    except ModelError:
        recorded = None
    if recorded is not None:
        columns = [np.array([text.encode("utf-8", "replace") for text in column], object) for column in recorded.texts]
        names = sorted(wanted["serving_default"].inputs) if "serving_default" in wanted else []
        count = len(recorded.predictions)
        for rows in (slice(None), *(slice(i, i + 1) for i in range(count))):
            texts = {name: column[rows] for name, column in zip(names, columns, strict=False)}
            for name, signature in wanted.items():
                if name == "serving_default":
                    put(name, name, texts, sorted(signature.outputs))
                elif list(signature.inputs) == ["inputs"]:
                    put(name, name, {"inputs": serialized_examples(texts)}, sorted(signature.outputs))
    try:
        for log in read_warmup(folder):
            name, inputs = inputs_of(log)
            put("warm-up", name, inputs, list(wanted[name].outputs) if name in wanted else [])
    except ModelError:
        pass
    return questions


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
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    try:
        parse_version(options.serving)
        libraries(options.serving, options.tensorflow)
        version = find_version(options.model)
        findings = check(
            version,
            serving=options.serving,
            tensorflow=options.tensorflow,
            bytes_outputs=options.bytes_output,
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
