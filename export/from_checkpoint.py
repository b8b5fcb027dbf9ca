"""Serve a finished classifier of the Hugging Face kind as it is: from its folder to a verified SavedModel.

    python -m export.from_checkpoint FOLDER --output runs/x
    python -m export.from_checkpoint owner/name@revision --output runs/x --data.text_columns "[text_a, text_b]"

It is a run of the recipe `finished`, and takes the settings of pipeline.run behind its own: --data.test FILE to score
the model, --data.labels to name its outputs. The run's folder is one as any other: export.kit, export.check and
pipeline.backbone.convert take it.
"""

import argparse

from pipeline.run import main as run


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status, as pipeline.run's."""
    parser = argparse.ArgumentParser(
        prog="python -m export.from_checkpoint",
        description="Serve a finished classifier (BERT, DistilBERT, ELECTRA, ERNIE) as it is, with its own labels. "
        "Settings of pipeline.run may follow: --data.text_columns '[a, b]' for pairs, --data.test FILE to score it.",
        allow_abbrev=False,
    )
    parser.add_argument("checkpoint", metavar="FOLDER", help="Hugging Face folder, or a name on the Hub (owner/name)")
    parser.add_argument("--output", required=True, metavar="RUN", help="folder of the run to make")
    options, settings = parser.parse_known_args(arguments)
    own = ["--model.backbone", options.checkpoint, "--run_dir", options.output]
    return run(["--config", "finished", *own, *settings])


if __name__ == "__main__":
    from pipeline.entry import run_command

    run_command(main)
