"""What an exported model can be asked: the signatures of the SavedModel.

serving_default: `text`, string [batch] (pairs: `text_a` and `text_b`), to what the task answers. Tasks with labels:
`label`, string [batch], `score`, float32 [batch] (its probability; of any number of labels the highest), and
`probabilities`, float32 [batch, C]. A number: `value` and, where there were validation rows, `low` and `high`, float32
[batch].
classify (a number: regress): `inputs`, serialized tf.Example [batch] with features of the same names, to `classes`,
string [batch, C], and `scores`, float32 [batch, C], both in the order of `label_names` (a number: `outputs`, float32
[batch, 1]). A feature that is missing, has numbers in place of bytes or not exactly one value counts as an empty text,
and so does everything in bytes that are no tf.Example (see export.examples).
Where export.fit asks for it also `fit`, float32 [batch], from 0 to 1 (see pipeline.typicality).
predict_tokens: `token_ids`, `segment_ids` and `padding_mask`, int32 [batch, L], L being the model's sequence_length, to
the outputs of serving_default. Any numbers are taken (see export.tokens).
top_k, set, embed and explain take what serving_default takes.
top_k (tasks with labels): `top_labels`, string [batch, k], and `top_scores`, float32 [batch, k], best first.
set (one label a row, where export.coverage asks for it): `set_labels`, string [batch, m], the labels that together hold
the right one so often, best first, "" behind the last; m is as many as there can be. `set_size`, int32 [batch].
embed: `embedding`, float32 [batch, H], what the last layer sees.
explain: `attributions`, float32 [batch, L], what each token adds to the log-odds of the label (of several the most
probable), or to the value (see export.explain); `pieces`, string [batch, L]; `begin` and `end`, int32 [batch, L], the
bytes of the text that a token is of; `completeness_gap`, float32 [batch]; `label`, string [batch], the name explained,
also where serving_default abstains, and `score`, or `value`; pairs: `segment_ids`, int32 [batch, L], 1 for tokens of
`text_b`.
A model of rows with columns, or of more than two texts, has an input for each in place of `text`, by its name: numbers
float32 [batch] and vectors float32 [batch, size], NaN where they are missing; categories and dates string [batch], ""
where they are missing. explain then also gives `column_attributions`, float32 [batch, columns], in the order of the
metadata, and `read`, string [batch], what was tokenized, where that is put together of several cells; `begin` and `end`
are bytes of it.
Special tokens and padding have attribution 0 and no bytes; padding, up to L, comes last and has the piece "". Of a
text the first 100,000 bytes are read, or 1,000,000 where text.long is not head.

A server cuts and merges the requests of its clients as it likes, concatenates what comes back along the batch, and
compares nothing else. Hence no input and no output has a size, other than the batch, that follows from what is sent;
no row fails, whatever it holds; and none depends on its company, but for rounding.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from export.chunks_explained import explain_in_chunks
from export.examples import cells_of, texts_of
from export.explain import explanation, integrated_gradients, most_bytes, pieces_of
from export.tokens import known_tokens
from pipeline.errors import UserError
from pipeline.features import Features
from pipeline.features.rows import RowEncoder
from pipeline.tasks.task import Task
from pipeline.text import TextEncoder

TOKENS = ("token_ids", "segment_ids", "padding_mask")
OPTIONAL = ("predict_tokens", "top_k", "set", "embed", "explain")
NEED_FUSED = ("embed", "explain")


@dataclass(frozen=True)
class SignatureOptions:
    """Which signatures are written beside serving_default and the one for tf.Examples.

    Args:
        names: of OPTIONAL; None: all that the model can have. `embed` and `explain` need a BERT as pipeline.classifier
            builds it, `top_k` a task with labels.
        top_k: labels that the signature top_k gives, at most all.
        explain_steps: points of the integral of `explain`.
    """

    names: Sequence[str] | None = None
    top_k: int = 5
    explain_steps: int = 40


def build_signatures(served, features: Features, options: SignatureOptions) -> dict[str, Callable]:
    """Functions by signature, each with the names and shapes of its inputs.

    Args:
        served: a savedmodel.ServedModel.
        features: whose inputs the signatures over texts have.

    Raises:
        UserError: a signature that is asked for by name and that the model cannot have.
    """
    names, task = features.inputs, served.task

    def of(function: Callable, *inputs: tf.TensorSpec) -> Callable:
        return tf.function(function, input_signature=inputs, autograph=False)

    cells = served.encoder.cell_specs

    def of_texts(answer: Callable) -> Callable:
        # A signature's inputs are named by the function's parameters.
        one, two = lambda text: answer([text]), lambda text_a, text_b: answer([text_a, text_b])
        if cells:
            return of(_with_parameters(lambda *found: answer(list(found)), names), *cells)
        function = two if len(names) == 2 else one
        return of(function, *(tf.TensorSpec([None], tf.string, name) for name in names))

    def predict_tokens(token_ids, segment_ids, padding_mask):
        segments = served.forward.num_segments if served.fused else len(names)
        inputs = known_tokens(token_ids, segment_ids, padding_mask, served.encoder, segments)
        return served.answer_to_tokens(inputs)

    tokens = (tf.TensorSpec([None, served.encoder.sequence_length], tf.int32, name) for name in TOKENS)

    def optional(name: str) -> Callable:
        return of_texts(lambda texts: task.optional_answer(name, served.predictions(texts), options.top_k))

    signatures = {
        "serving_default": of_texts(served.answer),
        task.example_signature: of(
            lambda inputs: task.example_answer(
                served.predictions(cells_of(inputs, cells) if cells else texts_of(inputs, names))
            ),
            tf.TensorSpec([None], tf.string, "inputs"),
        ),
        "predict_tokens": of(predict_tokens, *tokens),
        "embed": of_texts(
            lambda texts: {"embedding": tf.cast(served.pooled(served.encoder(*texts)), tf.float32)},
        ),
        "explain": of_texts(lambda texts: _explain(served, texts, options.explain_steps)),
    } | {name: optional(name) for name in task.optional_signatures}
    always = ("serving_default", task.example_signature)
    wanted = chosen(options, task, served.fused, tokens_suffice(served.encoder))
    return {name: signatures[name] for name in (*always, *wanted)}


def _explain(served, cells: list[tf.Tensor], steps: int) -> dict[str, tf.Tensor]:
    """The outputs of the signature explain."""
    most, encoder = most_bytes(served.encoder.long), served.encoder
    cells = [tf.strings.substr(cell, 0, most) if cell.dtype == tf.string else cell for cell in cells]
    if encoder.long.in_chunks:
        found, of_columns = explain_in_chunks(served, cells, steps)
        return found | _beside(encoder, cells, of_columns)
    inputs = encoder(*cells)
    about, shown = served.task.explained(served.predictions_of_tokens(inputs))
    inputs |= {name: _widened(inputs[name], encoder.sequence_length) for name in TOKENS}
    texts = encoder.texts(*cells)
    pieces = pieces_of(encoder, texts, {name: inputs[name] for name in TOKENS})
    _, begin, end = pieces
    attributions, of_columns, gap = integrated_gradients(
        served.forward,
        inputs,
        pieces=end > begin,
        explained=lambda logits, rows: served.task.contribution(logits, tf.gather(about, rows)),
        mask_id=served.encoder.mask_id,
        steps=steps,
    )
    # Says which of the two texts begin and end are of.
    segments = {"segment_ids": inputs["segment_ids"]} if len(texts) == 2 else {}
    return explanation(pieces, attributions, gap, shown) | segments | _beside(encoder, cells, of_columns)


def _beside(encoder: TextEncoder, cells: list[tf.Tensor], of_columns: tf.Tensor) -> dict[str, tf.Tensor]:
    """What explain says beside the pieces, of rows that are more than one text or two."""
    if not isinstance(encoder, RowEncoder):
        return {}
    # Its pieces have their bytes in what is read, which nobody has sent.
    found = {"read": encoder.texts(*cells)[0]} if encoder.features.composed else {}
    if columns := encoder.features.beside:
        which = np.repeat(np.arange(len(columns)), [column.width for column in columns])
        found["column_attributions"] = tf.matmul(of_columns, tf.one_hot(which, len(columns)))
    return found


def _with_parameters(function: Callable, names: Sequence[str]) -> Callable:
    """A function of any arguments as one of parameters of these names."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    function.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    return function


def _widened(values: tf.Tensor, width: int) -> tf.Tensor:
    """[batch, length] with zeros at the end up to [batch, width], which is static."""
    return tf.ensure_shape(tf.pad(values, [[0, 0], [0, width - tf.shape(values)[1]]]), [None, width])


def tokens_suffice(encoder: TextEncoder) -> bool:
    """Whether one sequence of tokens is all that a model reads of a row."""
    return set(encoder.specs) == set(TOKENS)


def chosen(options: SignatureOptions, task: Task, fused: bool, of_tokens: bool = True) -> list[str]:
    """The optional signatures that are written, in their order.

    Args:
        of_tokens: whether tokens suffice the model.
    """
    # That there is `set` is another setting's to say.
    asked = [name for name in ("set",) if name in task.optional_signatures]
    wanted = OPTIONAL if options.names is None else [*options.names, *asked]
    unknown = [name for name in wanted if name not in OPTIONAL]
    if unknown:
        raise UserError(f"export.signatures: there is no {unknown[0]!r}; choose from {', '.join(OPTIONAL)}.")
    need_bert = [name for name in wanted if name in NEED_FUSED and not fused]
    general = ("predict_tokens", *NEED_FUSED)
    need_labels = [name for name in wanted if name not in (*general, *task.optional_signatures)]
    if options.names is not None and need_bert:
        raise UserError(f"export.signatures {', '.join(need_bert)}: the model is not laid out as a BERT classifier.")
    if options.names is not None and need_labels:
        raise UserError(f"export.signatures {', '.join(need_labels)}: a model of the task {task.name} has none.")
    # A text in chunks has any number of them, and tokens say nothing of columns.
    no_place = [] if of_tokens else ["predict_tokens"]
    if options.names is not None and not of_tokens and "predict_tokens" in wanted:
        raise UserError("export.signatures predict_tokens has one sequence of tokens a row: this model reads more.")
    return [name for name in OPTIONAL if name in wanted and name not in (*need_bert, *need_labels, *no_place)]
