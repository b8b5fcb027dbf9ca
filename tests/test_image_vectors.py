"""Vectors of images beside the text: made from files, and read by the recipe that shows them."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from test_recipes import TINY
from tiny import FILLER, SPECIAL

from pipeline import run
from pipeline.command_line import parse
from pipeline.data.load import load
from pipeline.features import image_vectors
from pipeline.features.image_vectors import main, read_image

COLOURS = {"red": (255, 0, 0), "blue": (0, 0, 255)}


def write_products(folder, rows: int):
    """A file of products whose pictures are of their kind's colour; each tenth has none."""
    for name, colour in COLOURS.items():
        picture = tf.constant(np.full((5, 7, 3), colour, np.uint8))
        (folder / f"{name}.png").write_bytes(tf.io.encode_png(picture).numpy())
    with open(folder / "products.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["title", "price", "photo", "kind"])
        for i in range(rows):
            kind = ("red", "blue")[i % 2]
            title = f"{FILLER[i % len(FILLER)]} {FILLER[i // 3 % len(FILLER)]} {i}"
            writer.writerow([title, i % 7 or "", "" if i % 10 == 9 else f"{kind}.png", kind])
    return folder / "products.csv"


@pytest.fixture
def tiny_network(monkeypatch):
    """In place of keras.applications' networks: the mean of each colour."""
    monkeypatch.setattr(image_vectors, "network", lambda *_: lambda images: images.mean(axis=(1, 2)) / 255)


@pytest.mark.usefixtures("tiny_network")
@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_the_recipe_reads_the_vectors_of_any_format(tmp_path, suffix):
    rows, made = write_products(tmp_path, 60), tmp_path / f"products.{suffix}"
    assert main([str(rows), "--image_column", "photo", "--output", str(made)]) == 0
    config = parse(["--config", "products", "--data.train", str(made)])
    price, vector = load(config.data, tmp_path / "cache").features.columns
    assert price.missing and vector.missing and vector.size == 3
    assert vector.means[1] == 0 and vector.means[0] + vector.means[2] == pytest.approx(1)


@pytest.mark.usefixtures("tiny_network")
@pytest.mark.parametrize("without", [image_vectors.WINDOW, image_vectors.WINDOW + 1])
def test_the_first_rows_may_have_no_image(tmp_path, without):
    rows, made = write_products(tmp_path, 1), tmp_path / "made.parquet"
    lines = ["photo,title", *[",none"] * without, "red.png,one"]
    rows.write_text("\n".join(lines) + "\n")
    assert main([str(rows), "--image_column", "photo", "--output", str(made)]) == 0
    vectors = pq.read_table(made)["image_vector"]
    assert vectors.type == pa.list_(pa.float32()) and vectors.to_pylist() == [None] * without + [vectors[-1].as_py()]
    assert len(vectors[-1]) == 3


@pytest.mark.usefixtures("tiny_network")
def test_what_is_no_image_is_named_and_nothing_is_written(tmp_path, capsys):
    rows, made = write_products(tmp_path, 4), tmp_path / "made.csv"
    arguments = [str(rows), "--image_column", "photo", "--output", str(made)]
    (tmp_path / "blue.png").write_bytes(b"none")
    assert main(arguments) == 2
    (tmp_path / "blue.png").unlink()
    assert main(arguments) == 2
    assert main([*arguments, "--vector_column", "price"]) == 2
    none, gone, taken = capsys.readouterr().err.splitlines()
    assert "blue.png cannot be read as an image: it is no JPEG, PNG, GIF or BMP." in none
    assert "blue.png cannot be read as an image: No such file or directory." in gone
    assert "products.csv has a column 'price' already: give another --vector_column." in taken
    assert not made.exists()


@pytest.mark.slow
def test_a_run_on_pictures_of_a_network_of_keras_learns_their_colours(tmp_path):
    rows, made = write_products(tmp_path, 200), tmp_path / "products.parquet"
    assert main([str(rows), "--image_column", "photo", "--output", str(made)]) == 0
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, *FILLER, *"0123456789"]) + "\n")
    settings = TINY | {"data.train": str(made), "text.vocabulary": str(tmp_path / "vocab.txt"), "training.epochs": "8",
                       "training.columns_learning_rate": "0.01", "run_dir": str(tmp_path / "run")}  # fmt: skip
    assert (
        run.main(["--config", "products", *(word for key, value in settings.items() for word in (f"--{key}", value))])
        == 0
    )
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["accuracy"] > 0.8


@pytest.mark.slow
def test_random_weights_are_those_of_the_seed_and_a_file_brings_others(tmp_path, capsys):
    write_products(tmp_path, 1)
    images = np.stack([read_image(tmp_path / f"{name}.png") for name in COLOURS])
    one, same, other = (image_vectors.network("MobileNetV3Small", None, seed)(images) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert one.shape == (2, 576) and np.abs(one[0] - one[1]).max() > 0 and np.abs(one - other).max() > 0
    arguments = [str(tmp_path / "products.csv"), "--image_column", "photo", "--output", str(tmp_path / "made.csv")]
    (tmp_path / "none.weights.h5").write_bytes(b"none")
    assert main([*arguments, "--weights", str(tmp_path / "none.weights.h5")]) == 2
    assert main([*arguments, "--model", "BERT"]) == 2
    weights, model = capsys.readouterr().err.splitlines()
    assert "not the weights of MobileNetV3Small without its classifier" in weights
    assert "--model BERT: keras.applications has no such model" in model
