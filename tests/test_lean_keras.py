"""Commands start Keras without scikit-learn and pandas, and have these nevertheless."""

import subprocess
import sys

PROGRAM = """
import sys
from pipeline.lean_keras import lean_keras
lean_keras()
import keras
assert not {"sklearn", "pandas", "scipy.stats"} & sys.modules.keys()
import sklearn.linear_model
assert keras.layers.Dense(1)
"""


def test_keras_starts_without_what_no_command_uses():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=120)
