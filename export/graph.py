"""What is inside a SavedModel, read from its protocol buffer without loading it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow.core.framework import function_pb2, node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from export.versions import ModelError

# Collections that hold the operation which initialises a model; TensorFlow 1 and 2 have one name each.
INITIALISATION = ("saved_model_main_op", "legacy_init_op")


def read_graph(folder: Path) -> meta_graph_pb2.MetaGraphDef:
    """The graph that a server loads: the one with the tag "serve".

    Raises:
        ModelError: there is none.
    """
    path = Path(folder) / "saved_model.pb"
    try:
        saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise ModelError(f"{path} is no SavedModel: {error}") from error
    for graph in saved.meta_graphs:
        if list(graph.meta_info_def.tags) == ["serve"]:
            return graph
    raise ModelError(f"{path} has no graph with the tag serve and no other.")


def signatures(graph: meta_graph_pb2.MetaGraphDef) -> dict[str, meta_graph_pb2.SignatureDef]:
    """What can be asked, by name; without the initialisation that TensorFlow lists among the signatures."""
    return {name: graph.signature_def[name] for name in sorted(graph.signature_def) if not name.startswith("__")}


def all_nodes(graph: meta_graph_pb2.MetaGraphDef) -> list[node_def_pb2.NodeDef]:
    """Of the graph and of all functions, whether they are called or not: a server must know each of them."""
    library = graph.graph_def.library.function
    return [*graph.graph_def.node, *(node for function in library for node in function.node_def)]


def operations(graph: meta_graph_pb2.MetaGraphDef) -> list[str]:
    """Names of all operations, sorted; not of the functions that TensorFlow calls as if they were operations."""
    return sorted({node.op for node in all_nodes(graph)} - function_names(graph))


def function_names(graph: meta_graph_pb2.MetaGraphDef) -> set[str]:
    """Of all functions."""
    return {function.signature.name for function in graph.graph_def.library.function}


@dataclass(frozen=True)
class Parts:
    """All nodes of a graph and of its functions by what runs them, each with where it is: "" or " of function f"."""

    served: list[tuple[str, node_def_pb2.NodeDef]]
    """Those of the signatures, and those that nothing calls."""
    initialising: list[tuple[str, node_def_pb2.NodeDef]]
    """Those that run when the model is loaded, and not otherwise."""
    saving: list[tuple[str, node_def_pb2.NodeDef]]
    """Those of the saver, which restores the variables, and not otherwise."""


def parts(graph: meta_graph_pb2.MetaGraphDef) -> Parts:
    """Raises ModelError where an input of a node is not in the graph."""
    everything = {node.name for node in graph.graph_def.node}
    served = {node.name for node in _needed(graph, _outputs(graph))}
    initialising = {node.name for node in _needed(graph, _initialisation(graph))} - served
    saver = graph.saver_def
    roots = [name for name in (saver.save_tensor_name, saver.restore_op_name) if name]
    saving = {node.name for node in _needed(graph, roots)} - served - initialising
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    found, taken = [], set()
    for names in (everything - initialising - saving, initialising, saving):
        own = [node for node in graph.graph_def.node if node.name in names]
        called = _called(functions, own) - taken
        taken |= called
        found.append((own, called))
    found[0][1].update(functions.keys() - taken)
    return Parts(
        *(
            [("", node) for node in own]
            + [(f" of function {name}", node) for name in sorted(called) for node in functions[name].node_def]
            for own, called in found
        )
    )


def served_nodes(graph: meta_graph_pb2.MetaGraphDef) -> list[node_def_pb2.NodeDef]:
    """The nodes that answering may run: not those that save and restore.

    Raises:
        ModelError: a signature's output, or an input of a node, is not in the graph.
    """
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    own = list(_needed(graph, _outputs(graph)))
    return [*own, *(node for name in _called(functions, own) for node in functions[name].node_def)]


def served_variables(graph: meta_graph_pb2.MetaGraphDef) -> list[node_def_pb2.NodeDef]:
    """The variables that answering may read, as their VarHandleOp nodes."""
    return [node for node in _needed(graph, _outputs(graph)) if node.op == "VarHandleOp"]


def _outputs(graph: meta_graph_pb2.MetaGraphDef) -> list[str]:
    return [output.name for signature in signatures(graph).values() for output in signature.outputs.values()]


def _initialisation(graph: meta_graph_pb2.MetaGraphDef) -> list[str]:
    """Names of what a server runs once it has restored the variables."""
    hidden = [signature for name, signature in graph.signature_def.items() if name.startswith("__")]
    collections = (graph.collection_def[name] for name in INITIALISATION if name in graph.collection_def)
    return [
        *(output.name for signature in hidden for output in signature.outputs.values()),
        *(name for collection in collections for name in collection.node_list.value),
    ]


def _needed(graph: meta_graph_pb2.MetaGraphDef, pending: list[str]) -> Iterator[node_def_pb2.NodeDef]:
    """The nodes of these names, and all that they need."""
    nodes = {node.name: node for node in graph.graph_def.node}
    seen = set()
    while pending:
        name = pending.pop().removeprefix("^").split(":")[0]
        if name in seen:
            continue
        if name not in nodes:
            raise ModelError(f"the graph has no node {name}, which another needs.")
        seen.add(name)
        pending.extend(nodes[name].input)
        yield nodes[name]


def _called(functions: Mapping[str, function_pb2.FunctionDef], nodes: Iterable[node_def_pb2.NodeDef]) -> set[str]:
    """Names of the functions that nodes call, and those call."""
    called, pending = set(), list(nodes)
    while pending:
        node = pending.pop()
        for name in (node.op, *(name for value in node.attr.values() for name in _function_names(value))):
            if name in functions and name not in called:
                called.add(name)
                pending.extend(functions[name].node_def)
    return called


def _function_names(value) -> list[str]:
    return [value.func.name, *(function.name for function in value.list.func)]
