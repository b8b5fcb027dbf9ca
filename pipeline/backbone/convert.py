"""A BERT checkpoint from one format into another.

python -m pipeline.backbone.convert uncased_L-12_H-768_A-12 bert_hf                     to a Hugging Face folder
python -m pipeline.backbone.convert bert_hf bert_tf --format tf_checkpoint              to google-research/bert's layout
python -m pipeline.backbone.convert bert_hf bert_preset --format keras_preset           to a keras-nlp preset
python -m pipeline.backbone.convert bert_hf bert_hub --format tf_hub                    to SavedModels for TF-Hub
python -m pipeline.backbone.convert runs/reviews reviews_hf                             a finished run, with its head
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import full_disk

FORMATS = ("huggingface", "tf_checkpoint", "keras_preset", "tf_hub")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, or 2 after one sentence on what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.backbone.convert",
        description="Convert a BERT checkpoint: weights, vocabulary, settings and, where both formats hold them, "
        "heads, of pre-training or a classifier. What was written is read back and compared.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "source",
        metavar="FROM",
        help="folder of a finished run, a Hugging Face checkpoint, a google-research/bert checkpoint, a TF-Hub encoder "
        "or a keras-nlp preset; name on the Hugging Face Hub (bert-base-uncased, owner/name@revision); wheel:...; "
        "address of a TF-Hub encoder; or name of a keras-nlp preset",
    )
    parser.add_argument("target", metavar="TO", type=Path, help="new folder")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="of TO (default: %(default)s)")
    parser.add_argument(
        "--vocabulary", metavar="vocab.txt", help="for a checkpoint without one, or in place of its own"
    )
    options = parser.parse_args(arguments)
    try:
        for warning in convert(options.source, options.target, options.format, options.vocabulary):
            print(f"warning: {warning}", file=sys.stderr)
    except (UserError, OSError) as error:
        print(f"error: {full_disk(error, options.target) or error}", file=sys.stderr)
        return 2
    print(f"{options.source} -> {options.target} ({options.format}): read back, every tensor that was written is equal")
    return 0


def convert(source: str, target: Path, format: str = "huggingface", vocabulary: str | None = None) -> tuple[str, ...]:
    """Write a checkpoint in another format, read it back and compare.

    Args:
        source: what `load_checkpoint` takes, or the folder of a finished run, whose classifier is written.
        target: new or empty folder.
        format: one of FORMATS.
        vocabulary: a vocab.txt in place of the checkpoint's; None: its own.

    Returns:
        What of the checkpoint has no place in the format or here, one sentence each; one of them names its tensors.

    Raises:
        UserError: one sentence on what is wrong with the source, the target or the vocabulary.
    """
    # TensorFlow takes seconds to import: only now, when the command line is known to be good.
    from pipeline.backbone import hub, huggingface, preset, tf_checkpoint
    from pipeline.backbone.load import load_checkpoint
    from pipeline.backbone.saving import notes_on_rows, use_vocabulary
    from pipeline.training.finished_run import as_checkpoint, is_run
    from pipeline.vocabulary_file import load_vocabulary

    loaded = as_checkpoint(Path(source)) if is_run(Path(source)) else load_checkpoint(source, dtype="float32")
    if vocabulary is not None:
        loaded = use_vocabulary(loaded, vocabulary, load_vocabulary(vocabulary))
    elif not loaded.vocabulary:
        raise UserError(f"{source} has no tokenizer: give its vocab.txt as --vocabulary.")
    left_out, head = list(loaded.left_out), loaded.classifier
    # keras-nlp's BertTextClassifier is of BERT's own pooling alone.
    if head and format != "huggingface" and (format, head.pooling) != ("keras_preset", "cls"):
        left_out.append(f"the classifier ({', '.join(head.names[:5])}{' ...' if head.names[5:] else ''})")
        loaded = dataclasses.replace(loaded, classifier=None)
    beside = list(notes_on_rows(loaded))
    if left_out:
        beside.append(f"{source}: left out, for want of a place: {', '.join(left_out)}.")
    modules = {"huggingface": huggingface, "tf_checkpoint": tf_checkpoint, "keras_preset": preset, "tf_hub": hub}
    notes = modules[format].save(loaded, target)
    again = modules[format].load(target, dtype="float32")
    differences = different(loaded, again, heads=format != "keras_preset", next_sentence=format != "tf_hub")
    if differences:
        raise UserError(
            f"{target}: read back, {', '.join(differences[:5])} are not what was written: do not use it, and check the "
            "disk."
        )
    return (*loaded.notes, *beside, *notes)


def different(first, second, heads: bool = True, next_sentence: bool = True) -> list[str]:
    """What differs between two LoadedBackbones: tensors, bit by bit, vocabulary and settings.

    Args:
        first, second: LoadedBackbone.
        heads: compare their pre-training heads too.
        next_sentence: the next-sentence head among them.
    """
    from pipeline.backbone.bert_config import config_of, own_settings
    from pipeline.backbone.heads import NEXT_SENTENCE, head_arrays
    from pipeline.backbone.parts import parts

    # One variable at a time: two checkpoints are in memory already.
    ours = {part.google: part for part in parts(first.backbone, first.has_pooler)}
    theirs = {part.google: part for part in parts(second.backbone, second.has_pooler)}
    names = [
        name
        for name in ours | theirs
        if name not in ours or name not in theirs or ours[name].value().tobytes() != theirs[name].value().tobytes()
    ]
    if heads:
        bits = [
            {name.google: value.tobytes() for name, value in head_arrays(loaded.heads, ())} if loaded.heads else {}
            for loaded in (first, second)
        ]
        left_out = set() if next_sentence else {name.google for name in NEXT_SENTENCE}
        names += [name for name in bits[0] | bits[1] if name not in left_out and bits[0].get(name) != bits[1].get(name)]

    def settings(loaded) -> dict:
        head = dataclasses.asdict(loaded.classifier) if loaded.classifier else {}
        plain = {f"classifier {key}": as_bytes(value) for key, value in head.items() if key != "sequence_length"}
        # Where nothing says that text is lower-cased it is, and some files can only say so.
        tokens = {"vocabulary": loaded.vocabulary, "do_lower_case": loaded.lowercase is not False}
        return config_of(loaded.backbone, "") | own_settings(loaded) | tokens | plain

    def as_bytes(value):
        return value.tobytes() if hasattr(value, "tobytes") else value

    one, other = settings(first), settings(second)
    return names + [name for name in one | other if one.get(name) != other.get(name)]


if __name__ == "__main__":
    from pipeline.entry import run_command

    run_command(main)
