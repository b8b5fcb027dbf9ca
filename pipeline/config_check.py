"""Settings that cannot work, or not together: refused with a sentence before anything is begun."""

from export.config import check_answers, check_onnx, check_publish
from pipeline import tasks
from pipeline.backbone.config import (
    check_fresh_backbone,
    check_fresh_classifier,
    check_fusion,
    check_long_texts,
    check_pooling,
    check_redaction,
    check_room_for_text,
)
from pipeline.config import Config, check_run_dir
from pipeline.data.config import check_columns, check_split
from pipeline.evaluation.config import check_cross_validation, check_threshold
from pipeline.pretraining.config import check_pretraining
from pipeline.privacy.config import check_privacy, check_private_stage
from pipeline.search.config import check_search
from pipeline.settings.read import settle
from pipeline.training.config import (
    check_distillation,
    check_finished,
    check_method,
    check_self_training,
    check_training,
)

# What settings of several sections demand of each other; each rule stands beside the section that it is about.
RULES = (check_run_dir, check_private_stage, check_pretraining, check_fresh_backbone, check_redaction)
# Those of fine-tuning, which a run that ends with pre-training has no use for.
FINE_TUNING = (
    check_split, check_columns, check_room_for_text, check_long_texts, check_fusion, check_training, check_method,
    check_fresh_classifier, check_finished, check_distillation, check_pooling, check_threshold, check_cross_validation,
    check_search, check_answers, check_onnx, check_publish, check_self_training, check_privacy, tasks.check,
)  # fmt: skip


def check(config: Config) -> None:
    """Refuse wrong types, numbers out of their bounds and settings that cannot work together.

    A config that was made or changed in Python is as safe afterwards as one from a file: tuples, paths and NumPy's
    numbers in it become plain values, in place.

    Raises:
        UserError: naming the key, its value and what would do.
    """
    settle(config)
    for rule in RULES if config.stage == "pretrain" else FINE_TUNING + RULES:
        rule(config)
