"""What else of a run would tell about the private rows: it is switched off, with a line for each.

What has no setting of its own asks `training.privacy.on` where it is: the texts that an export is verified with, warms
up with and keeps are made ones, and its metadata has no digest of the rows (publish.py).
"""

from dataclasses import replace

from pipeline.config import Config
from pipeline.data.load import DataSplits
from pipeline.tasks.label_task import LabelTask


def without_releases(config: Config) -> Config:
    """The config of a private run without what tells about its rows beside its weights; says what is left out."""
    training, evaluation = config.training, config.evaluation
    if not training.privacy.on:
        return config
    print(
        "private: neither the training loss nor what the training rows are like is kept; made texts take the place of"
    )
    print("private: held-out ones in the export's warm-up, records and verification")
    off = replace(
        config,
        training=replace(training, bucket_by_length=False, embedding_update="dense", clip_norm=None, xla=False),
        evaluation=replace(evaluation, baseline="none", mistakes=0),
    )
    for section in ("training", "evaluation"):
        before, after = vars(getattr(config, section)), vars(getattr(off, section))
        for name in (name for name in before if before[name] != after[name]):
            print(f"private: {section}.{name} {before[name]} is not used")
    return off


def without_statistics(data: DataSplits) -> DataSplits:
    """The rows of a private run, with nothing else that the training rows say: neither in scores nor in the report."""
    summary = {split.name: {"rows": len(split)} for split in data.splits}
    task = replace(data.task, train_counts=None) if isinstance(data.task, LabelTask) else data.task
    return replace(data, task=task, summary=summary, warnings=[])
