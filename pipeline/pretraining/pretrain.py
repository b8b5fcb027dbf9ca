"""The road from raw text to a pre-trained checkpoint: vocabulary, tokens, updates, a Hugging Face folder."""

import dataclasses
import json
import os
from functools import partial
from pathlib import Path

import tensorflow as tf

from pipeline.backbone import huggingface
from pipeline.backbone.load import load_backbone
from pipeline.config import Config, PretrainingConfig
from pipeline.data.corpus import files_of, training_documents, validation_documents
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.pretraining.fit import PretrainingProgress, fit, unigram_entropy
from pipeline.pretraining.model import PretrainingModel, build_pretraining_model, heads_of
from pipeline.pretraining.prepare import Tokenization, prepare
from pipeline.pretraining.tokens import TokenCorpus
from pipeline.text import TextEncoder
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.numerics import choose_dtype
from pipeline.training.optimizer import AdamW, Lamb, build
from pipeline.training.schedule import WarmupDecay
from pipeline.training.strategy import describe
from pipeline.training.workers import Workers
from pipeline.vocabulary import learn, save_vocabulary


def pretrain(
    config: Config,
    run_dir: Path,
    strategy: tf.distribute.Strategy | None = None,
    workers: Workers | None = None,
) -> tuple[Path, dict]:
    """Pre-train from where a run stands to the end.

    Args:
        config: checked, with corpus.train set.
        run_dir: takes vocab.txt, corpus/ (tokens), pretraining/ (checkpoints) and, at the end, pretrained/.
        strategy, workers: of the run; None: one device, alone. The chief prepares the corpus and writes the outcome;
            the others find them.

    Returns:
        (pretrained/, a Hugging Face folder with the heads; scores, with the history of all looks at held-out text).

    Raises:
        UserError: one sentence on what is wrong with the input.
        Stopped: SIGTERM or Ctrl-C came; the state is saved.
    """
    strategy, workers = strategy or tf.distribute.get_strategy(), workers or Workers()
    target, scores = run_dir / "pretrained", run_dir / "pretraining.json"
    with workers.chief_first():
        complete = target.is_dir()
    if complete:
        print(f"pre-training is already complete: {target}")
        return target, json.loads(scores.read_text())
    pretraining, training = config.pretraining, config.training

    # Vocabulary: the checkpoint's, the given one, or one learned from the corpus.
    vocabulary = run_dir / "vocab.txt"
    text = config.text
    if config.model.backbone is None and text.vocabulary is None:
        with workers.chief_first():
            if not vocabulary.is_file():
                learned = learn(
                    training_documents(config.corpus),
                    pretraining.vocabulary_size,
                    pretraining.vocabulary_min_count,
                    text.lowercase is not False,
                )
                save_vocabulary(learned, vocabulary)
                print(f"learned a vocabulary of {len(learned)} pieces")
        text = dataclasses.replace(text, vocabulary=str(vocabulary))

    # Model: a backbone with the heads of pre-training.
    dtype = choose_dtype(training.dtype)
    print(describe(strategy, pretraining.phases[0].batch_size, dtype, training.xla))
    with strategy.scope():
        loaded = load_backbone(config.model, text, training.seed, dtype)
        model = build_pretraining_model(loaded, next_sentence=pretraining.objective != "none", dtype=dtype)
        model.accumulation, model.xla, model.z_loss = pretraining.accumulation, training.xla, pretraining.z_loss
        optimizer = make_pretraining_optimizer(pretraining, model)
        model.compile(optimizer=optimizer, jit_compile=False, steps_per_execution=training.steps_per_execution)
    longest = max(phase.sequence_length for phase in pretraining.phases)
    if longest > loaded.backbone.max_sequence_length:
        raise UserError(
            f"pretraining.phases ask for {longest} tokens, but {loaded.source} has "
            f"{loaded.backbone.max_sequence_length} positions."
        )

    # Tokens: the corpus on disk, tokenized once.
    lowercase = text.lowercase if text.lowercase is not None else loaded.lowercase
    encoder = TextEncoder(loaded.vocabulary, lowercase is not False, longest)
    if workers.chief and not vocabulary.is_file():
        save_vocabulary(list(loaded.vocabulary), vocabulary)
    tokenization = Tokenization(str(vocabulary), encoder.lowercase, pretraining.word_splitter)

    def tokens(name: str, read, source) -> TokenCorpus:
        read = partial(read, config.corpus)
        processes = pretraining.workers or os.cpu_count() or 1
        folder = run_dir / "corpus" / name
        with workers.chief_first():
            if workers.chief:
                corpus = prepare(read, files_of(source), tokenization, folder, workers=processes)
            else:
                corpus = TokenCorpus.open(folder)
        print(f"{name}: {corpus.documents} documents, {corpus.sentences} sentences, {corpus.tokens} tokens")
        return corpus

    train, held_out = tokens("train", training_documents, config.corpus.train), None
    if config.corpus.validation or config.corpus.validation_fraction:
        held_out = tokens("validation", validation_documents, config.corpus.validation or config.corpus.train)
        held_out = held_out if held_out.tokens else None
    entropy = unigram_entropy(train, len(encoder.vocabulary))
    print(f"{model.count_params() / 1e6:.1f} M parameters; unigram entropy of the corpus {entropy:.3f} nats a token")

    # Training, from the newest checkpoint, if there is one.
    identity = {"tokenization": encoder.fingerprint, "corpus": train.fingerprint}
    checkpoints = Checkpoints(run_dir / "pretraining", model, optimizer, identity, PretrainingProgress, workers)
    progress = fit(
        model,
        train,
        held_out,
        encoder,
        pretraining,
        training.seed,
        training.checkpoint_seconds,
        checkpoints,
        run_dir / "logs" / "pretraining",
    )
    seconds = sum(row["seconds"] for row in progress.history)
    examples = sum(phase.steps * phase.batch_size for phase in pretraining.phases)
    summary = {
        "updates": progress.updates,
        "examples": examples,
        "seconds": seconds,
        "examples_per_second": examples / max(seconds, 1e-9),
        "parameters": model.count_params(),
        "vocabulary": len(encoder.vocabulary),
        "tokens": train.tokens,
        "unigram_entropy": entropy,
        "history": progress.history,
    }
    if not workers.chief:
        workers.wait()
        return target, summary
    write_text(scores, json.dumps(summary, indent=1, allow_nan=False))

    # A checkpoint that fine-tuning and other programs load; it is what says that all is done.
    huggingface.save(
        dataclasses.replace(
            loaded,
            lowercase=encoder.lowercase,
            has_pooler=loaded.has_pooler or model.next_sentence,
            heads=heads_of(model),
        ),
        target,
    )
    workers.wait()
    print(f"pre-trained: {target}")
    return target, summary


def make_pretraining_optimizer(config: PretrainingConfig, model: PretrainingModel) -> AdamW:
    """The optimizer of all phases, built on the model's variables inside the current strategy scope."""
    total = sum(phase.steps for phase in config.phases)
    warmup = round(config.warmup * total)
    optimizer = (Lamb if config.optimizer == "lamb" else AdamW)(
        WarmupDecay(config.learning_rate, total, warmup, config.schedule, config.decay_power),
        weight_decay=config.weight_decay,
        beta_2=config.beta_2,
        epsilon=1e-6,
        clip_norm=config.clip_norm,
    )
    return build(optimizer, model)
