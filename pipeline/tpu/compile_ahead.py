"""Compile a StableHLO module for a TPU that is not there. Stands alone: run by a Python that has jax and libtpu.

python compile_ahead.py MODULE TOPOLOGY REPLICAS [CHIP_CONFIG]

MODULE is a file of serialized StableHLO, TOPOLOGY a name such as v5e:2x4, CHIP_CONFIG one of libtpu's, such as megacore
(a v4 chip's two cores as one; its default is two). Prints one line of JSON: either `peak_bytes`,
`flops`, `seconds` (and the parts of the memory), or `error` with what the compiler said. It rests on jax's private
calls, as jax has no public way to compile a module that it has not made: so its version is pinned (environment.py).
"""

import json
import os
import sys
import time

# No TPU is looked for, neither on this machine nor at Google Cloud's metadata server, or kept from other processes.
os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}


def compile_for(module: bytes, topology: str, replicas: int, chip_config: str | None = None) -> dict:
    """Compile for the first `replicas` cores of a topology.

    Returns:
        peak_bytes: largest use of a core's HBM; arguments_bytes and temporary_bytes are of it. flops: of one core.
    """
    from jax._src.compiler import get_compile_options  # pyright: ignore[reportMissingImports]  # extra tpu-check
    from jax._src.interpreters import mlir  # pyright: ignore[reportMissingImports]  # extra tpu-check
    from jax._src.lib import _jax  # pyright: ignore[reportMissingImports]  # extra tpu-check
    from jax._src.lib.mlir import ir  # pyright: ignore[reportMissingImports]  # extra tpu-check
    from jax.experimental import topologies  # pyright: ignore[reportMissingImports]  # extra tpu-check

    chosen = {"chip_config_name": chip_config} if chip_config else {}
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology, **chosen).devices
    if len(devices) < replicas:
        raise ValueError(f"{topology} has {len(devices)} cores, not {replicas}")
    devices = devices[:replicas]
    client = devices[0].client
    with mlir.make_ir_context() as context:
        context.allow_unregistered_dialects = True
        parsed = ir.Module.parse(module)
        _remove_copies(parsed)
        options = get_compile_options(
            num_replicas=replicas,
            num_partitions=1,
            device_assignment=devices,
            backend=client,
        )
        # The least effort: the same memory within a few per cent, in a fraction of the time.
        options.executable_build_options.exec_time_optimization_effort = -1.0
        started = time.monotonic()
        compiled = client.compile(parsed, executable_devices=_jax.DeviceList(tuple(devices)), compile_options=options)
        seconds = time.monotonic() - started
    memory = compiled.get_compiled_memory_stats()
    return {
        "peak_bytes": memory.peak_memory_in_bytes,
        "arguments_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "flops": compiled.cost_analysis()["flops"],
        "seconds": seconds,
    }


def _remove_copies(module) -> None:
    """Replace each mhlo.copy, which TensorFlow writes and libtpu's reader does not know, by what it copies."""
    from jax._src.lib.mlir import ir  # pyright: ignore[reportMissingImports]  # extra tpu-check

    copies = []

    def note(operation):
        if operation.name == "mhlo.copy":
            copies.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(note)
    for operation in copies:
        operation.results[0].replace_all_uses_with(operation.operands[0])
        operation.erase()


if __name__ == "__main__":
    path, topology_name, count, *config = sys.argv[1:]
    with open(path, "rb") as file:
        content = file.read()
    try:
        answer = compile_for(content, topology_name, int(count), *config)
    except Exception as error:  # whatever the compiler reports is the answer
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer))
