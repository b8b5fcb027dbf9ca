"""What TensorFlow Serving, its REST interface and this project's clients ask of an exported model: one function a rule.

A rule takes a Subject and returns what it found. It raises Broken where the rule is broken, and NotChecked where there
is nothing to check.
"""

from collections.abc import Callable

from export.server.rules.answers import (
    answers_of_examples,
    answers_of_serving_default,
    answers_of_warmup,
    every_request_ends,
    loads,
    memory,
)
from export.server.rules.batches import any_batch_size, any_bytes, any_length, company, finite, utf8_outputs
from export.server.rules.files import metadata, version_folder, warmup
from export.server.rules.graph import (
    known_operations,
    no_absolute_path,
    no_pinned_devices,
    no_randomness,
    no_side_effects,
    no_state,
    no_xla,
    serving_version,
    weights_once,
)
from export.server.rules.interface import (
    batch_dimension,
    examples,
    fixed_widths,
    output_types,
    rest_names,
    serving_default,
)
from export.server.rules.subject import Subject

RULES: tuple[Callable[[Subject], str], ...] = (
    version_folder,
    serving_default,
    examples,
    batch_dimension,
    fixed_widths,
    output_types,
    rest_names,
    no_absolute_path,
    no_xla,
    no_pinned_devices,
    no_randomness,
    no_state,
    no_side_effects,
    weights_once,
    metadata,
    warmup,
    serving_version,
    known_operations,
    loads,
    every_request_ends,
    answers_of_serving_default,
    answers_of_examples,
    answers_of_warmup,
    any_bytes,
    any_length,
    any_batch_size,
    company,
    finite,
    utf8_outputs,
    memory,
)
