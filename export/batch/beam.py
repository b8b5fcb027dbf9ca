"""Apache Beam: its direct runner, and Flink, Spark and Dataflow, which it runs on.

A runner retries what a lost worker had as a whole, and may answer a part twice at a time: `answer` allows for both.
Beam's own handler of TensorFlow models is not used: it loads models with Keras, which reads no SavedModels any more.
"""

from functools import partial

from export.batch.answer import answer_in_worker
from export.batch.inputs import Source
from export.batch.job import Job
from export.batch.parts import parts_of
from pipeline.extras import require


def run(job: Job, sources: list[Source], arguments: list[str]) -> None:
    """Answer what is missing. A process loads the model for the first part that it gets.

    Args:
        job: the batch.
        sources: its files; each is cut into parts by one worker.
        arguments: options of Beam and of its runner.
    """
    beam = require("beam", "apache_beam")
    pipeline_options = require("beam", "apache_beam.options.pipeline_options")
    with beam.Pipeline(options=pipeline_options.PipelineOptions(arguments)) as pipeline:
        files = pipeline | "files" >> beam.Create(sources)
        parts = files | "parts" >> beam.FlatMap(partial(parts_of, job))
        # Without it a file's parts would all be answered by the worker that cuts it.
        spread = parts | "spread" >> beam.Reshuffle()
        _ = spread | "answers" >> beam.Map(partial(answer_in_worker, job))
