"""Vectors of images, for data.vector_columns: a column of image files becomes one of lists of floats.

    python -m pipeline.features.image_vectors products.csv --image_column photo --output products.parquet
    python -m pipeline.features.image_vectors products.csv --image_column photo --output products.parquet \\
        --weights mobilenet_v3_small.weights.h5

Each image is resized to 224 x 224 and goes through a network of keras.applications without its classifier; the mean
over places is its vector. Without --weights the network's weights are random, the same for every file made with the
same --seed: they tell colours and coarse shapes, and far less than trained ones. The exit status is 0, or 2 after one
sentence on what is wrong.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pipeline.data.cell_values import is_missing
from pipeline.data.formats import FORMATS, Nothing, ReadOptions, Table, format_of, open_table, whole_file
from pipeline.errors import UserError

SIZE = 224
# Rows at a time; of each the image is held.
WINDOW = 32
Vectors = Callable[[np.ndarray], np.ndarray]


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, or 2 after one sentence on what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.features.image_vectors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", help="file of rows")
    parser.add_argument("--image_column", required=True, help="paths of images, from the folder of the file of rows; "
                        "an empty cell is a missing image")  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, help="the same rows with the vectors behind them: "
                        ".parquet, .jsonl, .csv")  # fmt: skip
    parser.add_argument("--vector_column", default="image_vector", help="name of the new column (default: %(default)s)")
    parser.add_argument("--model", default="MobileNetV3Small", help="of keras.applications (default: %(default)s)")
    parser.add_argument("--weights", type=Path, help="a file of the model's weights, without its classifier (default: "
                        "random ones)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of random weights")
    options = parser.parse_args(arguments)
    try:
        count = write(options, Path(options.rows).parent)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    kind = f"the weights of {options.weights}" if options.weights else "random weights"
    print(f"{options.output}: {count} rows with vectors of {options.model} with {kind}")
    return 0


def write(options: argparse.Namespace, folder: Path) -> int:
    """Write the rows with their vectors; returns how many there are.

    Args:
        options: of `main`.
        folder: of relative paths.

    Raises:
        UserError: a file, column, image, model or file of weights that is none.
    """
    import pyarrow as pa

    make = FORMATS[format_of(str(options.output), ReadOptions())].write
    if make is None:
        raise UserError(f"--output {options.output}: this format is only read: write a .parquet, .jsonl or .csv.")
    table = open_table(options.rows, ReadOptions())
    (place,) = table.places([options.image_column])
    if options.vector_column in table.columns:
        raise UserError(f"{options.rows} has a column {options.vector_column!r} already: give another --vector_column.")
    vectors, count, rows = network(options.model, options.weights, options.seed), 0, rows_of(table)
    with whole_file(options.output) as file:
        # Of the first rows none may have an image, and their cells say nothing of the type.
        types = table.types | {options.vector_column: pa.list_(pa.float32())}
        with make(file, [*table.columns, options.vector_column], types) as add:
            while window := list(itertools.islice(rows, WINDOW)):
                paths = [None if is_missing(row[place]) else folder / str(row[place]) for row in window]
                images = [read_image(path) for path in paths if path is not None]
                found = iter(vectors(np.stack(images)).tolist() if images else ())
                add([[*row, None if path is None else next(found)] for row, path in zip(window, paths, strict=True)])
                count += len(window)
    return count


def rows_of(table: Table) -> Iterator[list]:
    """The cells of each row.

    Raises:
        UserError: a row cannot be read.
    """
    for number, cells in table:
        if isinstance(cells, list):
            yield cells
        elif not isinstance(cells, Nothing):
            raise UserError(f"{table.place(number)}: the row {cells}.")


def network(name: str, weights: Path | None, seed: int) -> Vectors:
    """From images, float32 [n, SIZE, SIZE, 3] of 0 to 255, to vectors, float32 [n, width].

    Raises:
        UserError: keras.applications has no such model, or the file is none of its weights.
    """
    import keras

    build = getattr(keras.applications, name, None)
    if not isinstance(build, Callable):
        raise UserError(f"--model {name}: keras.applications has no such model; MobileNetV3Small is one.")
    keras.utils.set_random_seed(seed)
    model = build(weights=None, include_top=False, pooling="avg", input_shape=(SIZE, SIZE, 3))
    if weights is not None:
        try:
            model.load_weights(weights)
        except (OSError, ValueError) as error:
            said = str(error).strip().partition("\n")[0]
            raise UserError(
                f"--weights {weights}: not the weights of {name} without its classifier ({said})."
            ) from error
    # Models differ in what they want of pixels; the module of each says it.
    module = sys.modules[build.__module__]
    return lambda images: model.predict(module.preprocess_input(images), verbose=0)


def read_image(path: Path) -> np.ndarray:
    """float32 [SIZE, SIZE, 3] of 0 to 255; JPEG, PNG, GIF (the first picture) or BMP.

    Raises:
        UserError: there is no such file, or it is no image.
    """
    import tensorflow as tf

    try:
        image = tf.io.decode_image(path.read_bytes(), channels=3, expand_animations=False)
    except (OSError, tf.errors.InvalidArgumentError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JPEG, PNG, GIF or BMP"
        raise UserError(f"{path} cannot be read as an image: {reason}.") from error
    return tf.image.resize(image, [SIZE, SIZE]).numpy()


if __name__ == "__main__":
    from pipeline.entry import run_command

    run_command(main)
