"""The first stage of a run: from raw text to a checkpoint, which fine-tuning begins with."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.pretraining.pretrain import pretrain
from pipeline.training.workers import Workers


def pretraining_stage(
    config: Config, strategy: tf.distribute.Strategy, workers: Workers
) -> tuple[Config, dict[str, Any]]:
    """Pre-train where there is a corpus, or take what an earlier `--stage pretrain` has made.

    Returns:
        (the config with that checkpoint for its backbone, or as it is where there is no corpus; {"pretraining":
        scores}, or {}).

    Raises:
        UserError: stage finetune, and nothing was pre-trained yet.
    """
    if not config.corpus.train:
        return config, {}
    run_dir = Path(str(config.run_dir))
    if config.stage != "finetune":
        checkpoint, scores = pretrain(config, run_dir, strategy, workers)
    else:
        checkpoint, scores = _pretrained(run_dir)
    # The same draws from here on whether or not pre-training has just run in this process.
    keras.utils.set_random_seed(config.training.seed)
    model = replace(config.model, backbone=str(checkpoint), revision=None, num_layers=None)
    return replace(config, model=model, text=replace(config.text, vocabulary=None)), {"pretraining": scores}


def _pretrained(run_dir: Path) -> tuple[Path, dict[str, Any]]:
    folder, scores = run_dir / "pretrained", run_dir / "pretraining.json"
    if not folder.is_dir():
        raise UserError(f"stage finetune: {folder} is not there yet; run --stage pretrain, or --stage all, first.")
    return folder, json.loads(scores.read_text())
