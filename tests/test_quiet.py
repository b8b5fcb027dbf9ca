"""TensorFlow's start-up noise does not reach the terminal; everything else does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_export import export_tiny

from pipeline.quiet import GPU, is_noise

ROOT = Path(__file__).parents[1]
NOISE = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795753949.066037    6294 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will "
    "not be used.",
    "2025-01-02 03:04:05.678901: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.",
    "E0000 00:00:1730000000.123456    1234 cuda_dnn.cc:8310] Unable to register cuDNN factory: Attempting to register "
    "factory for plugin cuDNN when one has already been registered",
    "W0000 00:00:1730000000.123456    1234 computation_placer.cc:177] computation placer already registered.",
    "E0000 00:00:1795789937.230298    3186 text_format.cc:378] Error parsing text-format "
    "tensorflow.XlaSerializedCacheEntry: 2:1: Expected identifier, got: 6",
    "E0000 00:00:1795902319.578012   10740 util.cc:131] oneDNN supports DT_INT64 only on platforms with AVX-512. "
    "Falling back to the default Eigen-based implementation if present.",
]
CUDA = (
    "E0000 00:00:1795753961.183466 6294 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: Failed call "
    "to cuInit: UNKNOWN ERROR (303)"
)
REAL = [
    "W0000 00:00:1730000000.123456    1234 cpu_allocator_impl.cc:83] Allocation of 1e9 exceeds 10% of free memory.",
    "E0000 00:00:1795753961.183466 6294 cuda_platform.cc:52] failed call to cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    "F0000 00:00:1795753961.183466 6294 cpu_feature_guard.cc:32] compiled to use AVX, but these aren't available",
    "Traceback (most recent call last):",
    "error: I0000 is no row.",
]


def run(program: str, **environment: str) -> subprocess.CompletedProcess:
    variables = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=variables | environment
    )


@pytest.mark.parametrize("line", NOISE)
def test_noise_is_known(line):
    assert is_noise(line.encode())


@pytest.mark.parametrize("line", REAL)
def test_what_is_real_is_no_noise(line):
    assert not is_noise(line.encode())


def test_a_gpu_that_cannot_be_used_is_worth_a_line():
    assert is_noise(CUDA.encode()) == (not os.path.exists(GPU))


WRITE = f"import os, sys; os.write(2, {chr(10).join([*NOISE, *REAL, '']).encode()!r}); print('python', file=sys.stderr)"


def test_what_is_written_to_the_descriptor_is_filtered_and_keeps_its_order():
    lines = run(f"from pipeline.quiet import quiet; quiet(); {WRITE}").stderr.splitlines()
    assert sorted(lines) == sorted([*REAL, "python"])
    assert [line for line in lines if line != "python"] == REAL


def test_the_last_words_of_a_process_that_aborts_arrive():
    process = run(
        "import os; from pipeline.quiet import quiet; quiet(); os.write(2, b'F0000 last words\\n'); os.abort()"
    )
    assert process.returncode < 0 and process.stderr == "F0000 last words\n"


def test_who_wants_to_see_it_all_does():
    process = run(f"from pipeline.quiet import quiet; quiet(); {WRITE}", TF_CPP_MIN_LOG_LEVEL="0")
    assert sorted(process.stderr.splitlines()) == sorted([*NOISE, *REAL, "python"])


@pytest.mark.slow
def test_a_command_says_nothing_but_what_it_is_asked(tmp_path):
    export_tiny(tmp_path)
    arguments = [str(tmp_path), "the team and the coach"]
    process = run(
        f"import runpy, sys; sys.argv[1:] = {arguments}; runpy.run_module('export.predict', run_name='__main__')"
    )
    assert process.returncode == 0 and process.stdout.endswith("\tthe team and the coach\n")
    assert process.stderr == ""
