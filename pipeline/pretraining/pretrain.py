"""From raw text to a pre-trained checkpoint: vocabulary, tokens, updates, a Hugging Face folder."""

import dataclasses
import json
import sys
from functools import cache
from pathlib import Path

import tensorflow as tf

from pipeline.backbone import huggingface
from pipeline.backbone.load import load_backbone, require_segments
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.config import Config, PretrainingConfig, TextConfig
from pipeline.cores import cores
from pipeline.data.corpus import reader, training_documents
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.pretraining.duplicates import left_out
from pipeline.pretraining.fit import PretrainingProgress, fit, unigram_entropy
from pipeline.pretraining.model import PretrainingModel, build_pretraining_model, heads_of
from pipeline.pretraining.plan import why_no_pairs
from pipeline.pretraining.prepare import Tokenization, described, prepare, warn_of_empty
from pipeline.pretraining.tokens import TokenCorpus
from pipeline.text import TextEncoder
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.numerics import choose_dtype
from pipeline.training.optimizer import AdamW, Lamb, build
from pipeline.training.schedule import WarmupDecay
from pipeline.training.strategy import describe
from pipeline.training.workers import Workers
from pipeline.training.xla import choose_xla
from pipeline.vocabulary import learn
from pipeline.vocabulary_file import save_vocabulary


def pretrain(
    config: Config,
    run_dir: Path,
    strategy: tf.distribute.Strategy | None = None,
    workers: Workers | None = None,
) -> tuple[Path, dict]:
    """Pre-train from a run's current state to the end.

    Args:
        config: checked, with corpus.train set.
        run_dir: takes vocab.txt, corpus/ (tokens), pretraining/ (checkpoints) and, at the end, pretrained/.
        strategy, workers: of the run; None: one device, alone. The chief prepares the corpus and writes the outcome;
            the others read them.

    Returns:
        (pretrained/, a Hugging Face folder with the heads; scores, with those on held-out text after each interval).

    Raises:
        UserError: one sentence on what is wrong with the input.
        Stopped: SIGTERM or Ctrl-C came; the state is saved.
    """
    workers = workers or Workers()
    target, scores = run_dir / "pretrained", run_dir / "pretraining.json"
    with workers.chief_first():
        complete = target.is_dir()
    if complete:
        print(f"pre-training is already complete: {target}")
        return target, json.loads(scores.read_text())

    text = _text_config(config, run_dir, workers)
    loaded, model = _build(config, text, strategy or tf.distribute.get_strategy())
    for note in loaded.notes:
        print(f"note: {note}")
    encoder = loaded.text_encoder(text.lowercase, _longest(config.pretraining))
    train, held_out = _corpora(config, encoder, run_dir, workers)
    entropy = unigram_entropy(train, len(encoder.vocabulary))
    print(f"{model.count_params() / 1e6:.1f} M parameters; unigram entropy of the corpus {entropy:.3f} nats a token")

    identity = {"tokenization": encoder.fingerprint, "corpus": train.fingerprint}
    checkpoints = Checkpoints(
        run_dir / "pretraining", model, model.optimizer, identity, PretrainingProgress, workers=workers
    )
    progress = fit(model, train, held_out, encoder, config, checkpoints, run_dir / "logs" / "pretraining")
    summary = {
        **_speed(config.pretraining, progress),
        "parameters": model.count_params(),
        "vocabulary": len(encoder.vocabulary),
        "tokens": train.tokens,
        "unigram_entropy": entropy,
        "history": progress.history,
    }
    if workers.chief:
        write_text(scores, json.dumps(summary, indent=1, allow_nan=False))
        # The head of a finished classifier is of the encoder that it was trained with.
        own = {"has_pooler": loaded.has_pooler or model.next_sentence, "heads": heads_of(model), "classifier": None}
        # Fine-tuning and other programs load it. Its existence says that pre-training is complete.
        huggingface.save(dataclasses.replace(loaded, lowercase=encoder.lowercase, **own), target)
        print(f"pre-trained: {target}")
    workers.barrier()
    return target, summary


def _speed(pretraining: PretrainingConfig, progress: PretrainingProgress) -> dict[str, float]:
    seconds = sum(row["seconds"] for row in progress.history)
    examples = sum(phase.steps * phase.batch_size for phase in pretraining.phases)
    return {
        "updates": progress.updates,
        "examples": examples,
        "seconds": seconds,
        "examples_per_second": examples / max(seconds, 1e-9),
    }


def _longest(pretraining: PretrainingConfig) -> int:
    return max(phase.sequence_length for phase in pretraining.phases)


def _text_config(config: Config, run_dir: Path, workers: Workers) -> TextConfig:
    """The text section, with a vocabulary learned from the corpus where neither it nor a checkpoint has one."""
    text, pretraining = config.text, config.pretraining
    if config.model.backbone is not None or text.vocabulary is not None:
        return text
    path = run_dir / "vocab.txt"
    with workers.chief_first():
        if not path.is_file():
            documents = training_documents(config.corpus, split=False)
            minimum, lowercase = pretraining.vocabulary_min_count, text.lowercase is not False
            learned = learn(documents, pretraining.vocabulary_size, minimum, lowercase)
            save_vocabulary(learned, path)
            print(f"learned a vocabulary of {len(learned)} tokens")
    return dataclasses.replace(text, vocabulary=str(path))


def _build(
    config: Config, text: TextConfig, strategy: tf.distribute.Strategy
) -> tuple[LoadedBackbone, PretrainingModel]:
    """The backbone, and the compiled model of it and its heads."""
    pretraining, training = config.pretraining, config.training
    dtype = choose_dtype(training.dtype)
    xla = choose_xla(training.xla, sum(phase.steps for phase in pretraining.phases))
    print(describe(strategy, pretraining.phases[0].batch_size, dtype, xla))
    with strategy.scope():
        # Fine-tuning's length matters only where it follows; it is then refused before anything is trained.
        needed = dataclasses.replace(text, sequence_length=1) if config.stage == "pretrain" else text
        loaded = load_backbone(config.model, needed, training.seed, dtype)
        _check_objective(pretraining.objective, loaded)
        model = build_pretraining_model(loaded, next_sentence=pretraining.objective != "none", dtype=dtype)
        model.accumulation, model.xla, model.z_loss = pretraining.accumulation, xla, pretraining.z_loss
        optimizer = make_pretraining_optimizer(pretraining, model)
        model.compile(optimizer=optimizer, jit_compile=False, steps_per_execution=training.steps_per_execution)
    positions = loaded.backbone.max_sequence_length
    if _longest(pretraining) > positions:
        raise UserError(
            f"pretraining.phases ask for {_longest(pretraining)} tokens, but {loaded.source} has {positions} positions."
        )
    return loaded, model


def _check_objective(objective: str, loaded: LoadedBackbone) -> None:
    """Refuse pairs of segments where a checkpoint's family does not know them."""
    if objective == "none":
        return
    require_segments(loaded, f"pretraining.objective {objective}")
    if not loaded.family.has_pooler:
        raise UserError(
            f"pretraining.objective {objective}: {loaded.source} is of the family {loaded.family.model_type}, which "
            "has no pooler to judge pairs with: set none."
        )


def _corpora(
    config: Config, encoder: TextEncoder, run_dir: Path, workers: Workers
) -> tuple[TokenCorpus, TokenCorpus | None]:
    """The corpus on disk, tokenized once: for training, and held out (None: nothing is)."""
    vocabulary = run_dir / "vocab.txt"
    if workers.chief and not vocabulary.is_file():
        save_vocabulary(list(encoder.vocabulary), vocabulary)
    tokenization = Tokenization(str(vocabulary), encoder.lowercase, config.pretraining.word_splitter, encoder.rules)

    processes = config.pretraining.workers or cores()
    # Of both it is said once how many documents are left out.
    skipped = cache(lambda: left_out(config.corpus, run_dir / "corpus", processes))

    def tokens(name: str) -> TokenCorpus:
        folder = run_dir / "corpus" / name
        with workers.chief_first():
            if workers.chief:
                files, read = reader(config.corpus, name, skipped())
                corpus = prepare(read, files, tokenization, folder, workers=processes)
            else:
                corpus = TokenCorpus.open(folder)
        print(f"{name}: {described(corpus)}")
        return corpus

    train, held_out = tokens("train"), None
    if config.corpus.validation or config.corpus.validation_fraction:
        held_out = tokens("validation")
    if workers.chief:
        warn_of_empty(config.corpus, train, held_out)
    if not held_out or not held_out.tokens:
        return train, None
    why = why_no_pairs(held_out, config.pretraining.objective)
    if why and workers.chief:
        count = f"{held_out.documents:,} document{'s' * (held_out.documents != 1)}"
        print(f"warning: of the held-out text ({count}) only masked tokens are scored, no pairs: {why}; hold out more "
              "by corpus.validation_fraction or corpus.validation.", file=sys.stderr)  # fmt: skip
    return train, held_out


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
