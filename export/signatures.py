"""What an exported classifier can be asked, beside its label: the signatures of the SavedModel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf

from export.explain import integrated_gradients, pieces_of
from pipeline.errors import UserError

ALWAYS = ("serving_default", "classify")
TOKENS = ("token_ids", "segment_ids", "padding_mask")
OPTIONAL = ("predict_tokens", "top_k", "embed", "explain")


@dataclass(frozen=True)
class SignatureOptions:
    """Which signatures are written beside serving_default and classify.

    Args:
        names: of OPTIONAL; None: all that the model can have. `embed` and `explain` need a BERT as pipeline.classifier
            builds it.
        top_k: labels that the signature top_k gives, at most all.
        explain_steps: points of the integral of `explain`.
    """

    names: Sequence[str] | None = None
    top_k: int = 5
    explain_steps: int = 40


DEFAULT_SIGNATURES = SignatureOptions()


def input_names(pair: bool) -> list[str]:
    """Names of the text inputs of all signatures but classify and predict_tokens."""
    return ["text_a", "text_b"] if pair else ["text"]


def build_signatures(served, pair: bool, options: SignatureOptions) -> dict[str, Callable]:
    """Functions by signature, each with the names and shapes of its inputs.

    Args:
        served: a savedmodel.ServedClassifier.
        pair: two texts a row.

    Raises:
        UserError: a signature that is asked for by name and that the model cannot have.
    """
    names = input_names(pair)
    count = len(served.rule.names)
    k = min(options.top_k, count)

    def of(function: Callable, *inputs: tf.TensorSpec) -> Callable:
        return tf.function(function, input_signature=inputs, autograph=False)

    def of_texts(answer: Callable) -> Callable:
        # A signature's inputs are named by the function's parameters.
        function = (lambda text_a, text_b: answer([text_a, text_b])) if pair else (lambda text: answer([text]))
        return of(function, *(tf.TensorSpec([None], tf.string, name) for name in names))

    def classify(inputs):
        features = tf.io.parse_example(inputs, {name: tf.io.FixedLenFeature([], tf.string, "") for name in names})
        scores = served.probabilities([features[name] for name in names])
        classes = tf.repeat(tf.constant([served.rule.names]), tf.shape(scores)[0], axis=0)
        return {"classes": classes, "scores": scores}

    def predict_tokens(token_ids, segment_ids, padding_mask):
        length, longest = tf.shape(token_ids)[1], served.encoder.sequence_length
        message = f"predict_tokens takes at most {longest} tokens a text."
        with tf.control_dependencies([tf.debugging.assert_less_equal(length, longest, message)]):
            token_ids = tf.identity(token_ids)
        inputs = {"token_ids": token_ids, "segment_ids": segment_ids, "padding_mask": padding_mask}
        return served.answer(served.probabilities_of_tokens(inputs))

    def top_k(texts):
        scores, classes = tf.math.top_k(served.probabilities(texts), k)
        return {"top_labels": tf.gather(tf.constant(served.rule.names), classes), "top_scores": scores}

    def embed(texts):
        return {"embedding": tf.cast(served.pooled(served.encoder(*texts)), tf.float32)}

    def explain(texts):
        inputs = served.encoder(*texts)
        probabilities = served.probabilities_of_tokens(inputs)
        label = tf.argmax(probabilities, axis=1, output_type=tf.int32)
        pieces, begin, end = pieces_of(served.encoder, texts, inputs)
        attributions, gap = integrated_gradients(
            served.forward,
            inputs,
            pieces=end > begin,
            label=label,
            mask_id=served.encoder.mask_id,
            steps=options.explain_steps,
            multi_label=served.rule.multi_label,
        )
        return {
            "pieces": pieces,
            "begin": begin,
            "end": end,
            "attributions": attributions,
            "label": tf.gather(tf.constant(served.rule.names), label),
            "score": tf.reduce_max(probabilities, axis=1),
            "completeness_gap": gap,
            # Says which of the two texts begin and end are of.
            **({"segment_ids": inputs["segment_ids"]} if pair else {}),
        }

    tokens = [tf.TensorSpec([None, None], tf.int32, name) for name in TOKENS]
    signatures = {
        "serving_default": of_texts(lambda texts: served.answer(served.probabilities(texts))),
        "classify": of(classify, tf.TensorSpec([None], tf.string, "inputs")),
        "predict_tokens": of(predict_tokens, *tokens),
        "top_k": of_texts(top_k),
        "embed": of_texts(embed),
        "explain": of_texts(explain),
    }
    return {name: signatures[name] for name in (*ALWAYS, *chosen(options, served.fused))}


def chosen(options: SignatureOptions, fused: bool) -> list[str]:
    """The optional signatures that are written, in their order."""
    wanted = OPTIONAL if options.names is None else options.names
    unknown = [name for name in wanted if name not in OPTIONAL]
    if unknown:
        raise UserError(f"export.signatures: there is no {unknown[0]!r}; choose from {', '.join(OPTIONAL)}.")
    need_bert = [name for name in wanted if name in ("embed", "explain") and not fused]
    if need_bert and options.names is not None:
        raise UserError(f"export.signatures {', '.join(need_bert)}: the model is not laid out as a BERT classifier.")
    return [name for name in OPTIONAL if name in wanted and name not in need_bert]
