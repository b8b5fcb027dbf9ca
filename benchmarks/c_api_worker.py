"""A SavedModel under TensorFlow's C API alone, in a process of its own, as serving.py asks it.

Standard input: pickles, first (TensorFlow's folder, op libraries, SavedModel, input tensor, output tensor), then lists
of texts. Standard output: for each list a pickle of its labels.
"""

import pickle
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from export.server.c_api import Library, Session


def main() -> None:
    source, target = sys.stdin.buffer, sys.stdout.buffer
    tensorflow, op_libraries, model, feed, fetch = pickle.load(source)
    session = Session(Library(tensorflow, op_libraries), model)
    while True:
        try:
            texts = pickle.load(source)
        except EOFError:
            return
        (labels,) = session.run({feed: np.array([text.encode() for text in texts], object)}, [fetch])
        pickle.dump([label.decode() for label in labels], target)
        target.flush()


if __name__ == "__main__":
    main()
