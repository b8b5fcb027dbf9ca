"""Hugging Face folders against transformers itself."""

import random

import numpy as np
import pytest
import tensorflow as tf
from checkpoints import (
    ACTIVATIONS,
    CONFIG,
    HIDDEN,
    ROWS,
    VOCABULARY,
    assert_heads,
    load,
    masked_scores,
    random_heads,
    random_inputs,
    random_tensors,
    with_heads,
    write_folder,
)
from family_folders import CLASSIFIERS, FAMILIES, with_tiny_words, write_classifier, write_family
from tiny import VOCABULARY as TINY_VOCABULARY
from tiny import write_config

from export.loading import Classifier
from pipeline.backbone import huggingface
from pipeline.backbone.convert import convert, main
from pipeline.backbone.finished_config import read
from pipeline.backbone.load import load_checkpoint
from pipeline.classifier import build_classifier, take_head
from pipeline.config import DataConfig
from pipeline.errors import UserError
from pipeline.evaluation.transformers_judge import judge
from pipeline.run import main as run
from pipeline.tasks import kind


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_transformers_computes_what_the_backbone_does(tmp_path, activation):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = {"hidden_act": activation, "layer_norm_eps": 0.01}
    loaded = load(write_folder(tmp_path / "from", **config))
    assert huggingface.save(loaded, tmp_path / "to") == ()
    model, info = transformers.BertModel.from_pretrained(tmp_path / "to", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert model.config.hidden_dropout_prob == 0.2 and model.config.architectures == ["BertModel"]
    inputs = random_inputs(CONFIG)
    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids", "padding_mask": "attention_mask"}
    with torch.no_grad():
        theirs = model(**{names[key]: torch.tensor(value.astype(np.int64)) for key, value in inputs.items()})
    ours = loaded.backbone(inputs, training=False)
    real = inputs["padding_mask"] == 1
    sequence = theirs.last_hidden_state.numpy()
    np.testing.assert_allclose(ours["sequence_output"].numpy()[real], sequence[real], atol=1e-5)
    np.testing.assert_allclose(ours["pooled_output"], theirs.pooler_output.numpy(), atol=1e-5)


def test_heads_go_from_transformers_through_tensorflow_and_back(tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(**CONFIG | {"initializer_range": 0.5})
    original = transformers.BertForPreTraining(config).eval()
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    original.save_pretrained(tmp_path / "from")
    (tmp_path / "from" / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    assert main([str(tmp_path / "from"), str(tmp_path / "tf"), "--format", "tf_checkpoint"]) == 0
    assert main([str(tmp_path / "tf"), str(tmp_path / "to")]) == 0

    copy, info = transformers.BertForPreTraining.from_pretrained(tmp_path / "to", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and copy.config.hidden_act == "gelu"
    inputs = random_inputs(CONFIG)
    ids = {"input_ids": inputs["token_ids"], "token_type_ids": inputs["segment_ids"],
           "attention_mask": inputs["padding_mask"]}  # fmt: skip
    ids = {name: torch.tensor(value.astype(np.int64)) for name, value in ids.items()}
    with torch.no_grad():
        expected, actual = original(**ids), copy(**ids)
    assert torch.equal(expected.prediction_logits, actual.prediction_logits)
    assert torch.equal(expected.seq_relationship_logits, actual.seq_relationship_logits)
    # And it is what the documentation of PretrainingHeads says, in float64.
    state = {name: value.numpy() for name, value in original.state_dict().items()}
    tensors = {name.removeprefix("bert."): value for name, value in state.items() if name.startswith("bert.")}
    scores, pairs = masked_scores(CONFIG, tensors, state, inputs)
    real = inputs["padding_mask"] == 1
    np.testing.assert_allclose(actual.prediction_logits.numpy()[real], scores[real], atol=1e-4)
    np.testing.assert_allclose(actual.seq_relationship_logits.numpy(), pairs, atol=1e-4)
    loaded = load(tmp_path / "to")
    np.testing.assert_array_equal(loaded.heads.transform_kernel, state["cls.predictions.transform.dense.weight"].T)


def test_transformers_takes_the_masked_token_head_alone(tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    heads = {name: value for name, value in random_heads().items() if "predictions" in name}
    tensors = random_tensors(CONFIG, pooler=False)
    loaded = load(write_folder(tmp_path / "from", with_heads(tensors, heads)))
    huggingface.save(loaded, tmp_path / "to")
    model, info = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "to", output_loading_info=True)
    assert type(model).__name__ == "BertForMaskedLM" and not info["missing_keys"] and not info["unexpected_keys"]
    inputs = random_inputs(CONFIG)
    tensors = random_tensors(CONFIG)
    scores, _ = masked_scores(CONFIG, tensors, random_heads(), inputs)
    with torch.no_grad():
        ids = [torch.tensor(inputs[name].astype(np.int64)) for name in ("token_ids", "padding_mask", "segment_ids")]
        actual = model(ids[0], attention_mask=ids[1], token_type_ids=ids[2]).logits.numpy()
    real = inputs["padding_mask"] == 1
    np.testing.assert_allclose(actual[real], scores[real], atol=1e-4)


@pytest.mark.parametrize(("lowercase", "pieces"), [(True, ["a", "b", "c"]), (False, ["[UNK]", "b", "c"])])
def test_transformers_tokenizes_as_the_checkpoint_says(tmp_path, lowercase, pieces):
    transformers = pytest.importorskip("transformers")
    loaded = load(write_folder(tmp_path / "from", tokenizer={"do_lower_case": lowercase}))
    huggingface.save(loaded, tmp_path / "to")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "to")
    assert tokenizer.tokenize("Á b c") == pieces and len(tokenizer) == ROWS
    assert tokenizer("b c")["input_ids"] == [2, 6, 7, 3] and tokenizer.model_max_length == 12
    assert load(tmp_path / "to").lowercase is lowercase


def test_an_untied_decoder_is_not_taken_for_the_word_embeddings(tmp_path):
    tensors = with_heads(random_tensors(CONFIG))
    words = tensors["bert.embeddings.word_embeddings.weight"]
    tied = load(write_folder(tmp_path / "tied", tensors | {"cls.predictions.decoder.weight": words.copy()}))
    assert_heads(tied.heads)
    other = load(write_folder(tmp_path / "untied", tensors | {"cls.predictions.decoder.weight": words + 1}))
    assert other.heads is None and "decoder.weight is not the word embeddings" in other.notes[0]
    # An older name of the same bias.
    tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")
    assert_heads(load(write_folder(tmp_path / "bias", tensors)).heads)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_are_what_transformers_takes_them_for(tmp_path, family):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    write_family(tmp_path / "from", family)
    loaded = load(tmp_path / "from")
    huggingface.save(loaded, tmp_path / "to")
    inputs = random_inputs(CONFIG)
    names = {"token_ids": "input_ids", "padding_mask": "attention_mask"}
    names |= {} if family == "distilbert" else {"segment_ids": "token_type_ids"}
    given = {names[key]: torch.tensor(inputs[key].astype(np.int64)) for key in names}
    real = inputs["padding_mask"] == 1
    ours = loaded.backbone(inputs, training=False)["sequence_output"].numpy()[real]
    scores = []
    for folder in ("from", "to"):
        model, info = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / folder, output_loading_info=True)
        assert not info["missing_keys"]
        with torch.no_grad():
            states = model.base_model(**given).last_hidden_state.numpy()[real]
            scores.append(model(**given).logits.numpy()[real])
        np.testing.assert_allclose(ours, states, atol=1e-5)
    np.testing.assert_array_equal(*scores)


def test_ernies_task_is_in_its_segments_as_in_transformers(tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tasks = {"embeddings.task_type_embeddings.weight": np.full((3, HIDDEN), 0.7, np.float32)}
    config = {"model_type": "ernie", "use_task_id": True, "task_type_vocab_size": 3}
    folder = write_folder(tmp_path, random_tensors(CONFIG) | tasks, **config)
    inputs = random_inputs(CONFIG)
    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids", "padding_mask": "attention_mask"}
    with torch.no_grad():
        given = {names[key]: torch.tensor(value.astype(np.int64)) for key, value in inputs.items()}
        theirs = transformers.AutoModel.from_pretrained(folder)(**given).last_hidden_state.numpy()
    ours = load(folder).backbone(inputs, training=False)["sequence_output"].numpy()
    real = inputs["padding_mask"] == 1
    np.testing.assert_allclose(ours[real], theirs[real], atol=1e-5)


@pytest.mark.parametrize(
    ("family", "outputs", "problem"),
    [*((family, 3, None) for family in CLASSIFIERS), ("bert", 1, "regression"),
     ("distilbert", 3, "multi_label_classification")],
)  # fmt: skip
def test_a_finished_classifier_answers_as_in_transformers_and_as_its_pipeline_once_it_is_written(
    tmp_path, family, outputs, problem
):
    _, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    write_classifier(tmp_path / "from", family, outputs, problem_type=problem)
    loaded, found = load_checkpoint(str(tmp_path / "from"), dtype="float32"), read(tmp_path / "from")
    model = build_classifier(loaded, outputs, pooling=found.pooling, dtype="float32")
    take_head(model, loaded.classifier)
    encoder, task = (
        loaded.text_encoder(sequence_length=12),
        kind(found.task).stand_in(DataConfig(labels=[*found.names])),
    )
    texts = ["a", "b c d e f g h i j k l m", "n o a b", "c"]
    predictions = task.activation(model(encoder(tf.constant(texts)), training=False)).numpy()
    assert judge(tmp_path / "from", [texts], predictions, encoder, task, 1e-4)["texts of other tokens"] == 0
    with pytest.raises(UserError, match=r"answers otherwise here than in transformers, by 1 where 0\.0001 is allowed"):
        judge(tmp_path / "from", [texts], predictions + 1, encoder, task, 1e-4)
    convert(str(tmp_path / "from"), tmp_path / "to")
    answers = transformers.pipeline("text-classification", str(tmp_path / "to"), truncation=True, top_k=None)(texts)
    for row, answer in zip(predictions, answers, strict=True):
        scores = {item["label"]: item["score"] for item in answer}
        np.testing.assert_allclose([scores[name] for name in found.names], row, atol=1e-4)


@pytest.mark.parametrize(("family", "pooling"), [("bert", "cls"), ("distilbert", "fresh"), ("electra-small", "gelu")])
def test_a_trained_run_answers_in_transformers_as_it_is_served(tmp_path, family, pooling):
    _, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    write_classifier(tmp_path / "checkpoint", family)
    checkpoint = with_tiny_words(tmp_path / "checkpoint")
    config = write_config(tmp_path / "work", rows=90, text={"vocabulary": None},
                          model={"pooling": pooling, "backbone": str(checkpoint), "num_layers": None})  # fmt: skip
    assert run(["--config", str(config), "--run_dir", str(tmp_path / "run")]) == 0
    convert(str(tmp_path / "run"), tmp_path / "to")
    words = random.Random(0)
    texts = [" ".join(words.choices(TINY_VOCABULARY[5:], k=1 + 2 * i)) for i in range(18)] + ["Ünïcode, GOAL!", ""]
    served = Classifier(tmp_path / "run")(texts)
    answers = transformers.pipeline("text-classification", str(tmp_path / "to"), truncation=True, top_k=None)(texts)
    for ours, theirs in zip(served, answers, strict=True):
        scores = {item["label"]: item["score"] for item in theirs}
        np.testing.assert_allclose([scores[name] for name in sorted(scores)], ours["probabilities"], atol=1e-5)
        assert max(scores, key=scores.__getitem__) == ours["label"]
