"""What is inside a SavedModel, read from its protocol buffer without loading it."""

from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow.core.framework import node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from export.versions import ModelError


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
    functions = {function.signature.name for function in graph.graph_def.library.function}
    return sorted({node.op for node in all_nodes(graph)} - functions)


def served_nodes(graph: meta_graph_pb2.MetaGraphDef) -> list[node_def_pb2.NodeDef]:
    """The nodes that answering may run: not those that save and restore.

    Raises:
        ModelError: a signature's output, or an input of a node, is not in the graph.
    """
    return list(_with_called(graph, list(_fetched(graph))))


def served_variables(graph: meta_graph_pb2.MetaGraphDef) -> list[node_def_pb2.NodeDef]:
    """The variables that answering may read, as their VarHandleOp nodes."""
    return [node for node in _fetched(graph) if node.op == "VarHandleOp"]


def _fetched(graph: meta_graph_pb2.MetaGraphDef) -> Iterator[node_def_pb2.NodeDef]:
    nodes = {node.name: node for node in graph.graph_def.node}
    pending = [output.name for signature in signatures(graph).values() for output in signature.outputs.values()]
    seen = set()
    while pending:
        name = pending.pop().removeprefix("^").split(":")[0]
        if name in seen:
            continue
        if name not in nodes:
            raise ModelError(f"the graph has no node {name}, which a signature needs.")
        seen.add(name)
        pending.extend(nodes[name].input)
        yield nodes[name]


def _with_called(graph, nodes: list) -> Iterator[node_def_pb2.NodeDef]:
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    called = set()
    while nodes:
        node = nodes.pop()
        yield node
        names = [node.op, *(name for value in node.attr.values() for name in _function_names(value))]
        for name in names:
            if name in functions and name not in called:
                called.add(name)
                nodes.extend(functions[name].node_def)


def _function_names(value) -> list[str]:
    return [value.func.name, *(function.name for function in value.list.func)]
