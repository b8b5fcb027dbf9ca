"""What a graph may do to the machine that runs it, judged before anything of it is run."""

import re
from collections.abc import Mapping

from tensorflow.core.protobuf import meta_graph_pb2

from export import graph as graphs

# They read variables, or call a function, whose own operations are looked at, or stop a request.
HARMLESS_STATE = {
    "VarHandleOp", "ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VarIsInitializedOp", "VariableShape",
    "DisableCopyOnRead", "StatefulPartitionedCall", "If", "While", "Case", "Assert",
    # A table that nothing but its initialisation fills.
    "HashTableV2", "LookupTableFindV2", "LookupTableSizeV2",
}  # fmt: skip
# What fills it, from constants.
INITIALISING = {"LookupTableImportV2", "InitializeTableV2"}
SAVING = {"SaveV2", "RestoreV2", "MergeV2Checkpoints", "AssignVariableOp"}
# They read or write files, reach out to other machines or run code that is no graph, and have no state all the same.
REACHING_OUT = re.compile(
    "ReadFile|MatchingFiles|GenerateVocabRemapping|InitializeTableFromTextFile|ImmutableConst|PyFuncStateless"
    "|Debug.*|XlaCustomCall.*|.*Dataset.*"
)


def why_not_run(graph: meta_graph_pb2.MetaGraphDef, registry: Mapping[str, bool]) -> str | None:
    """What of a graph makes it unsafe to run, in half a sentence; None: nothing.

    Args:
        graph: all of whose functions are judged, called or not; those that only its saver calls may save and restore,
            and those that only its initialisation calls may fill read-only tables.
        registry: whether an operation has state, by name. What has state is refused but for the names above; numbers
            drawn at random are none of this rule's. What is not in it is refused too.
    """
    parts = graphs.parts(graph)
    for nodes, more in ((parts.served, set()), (parts.initialising, INITIALISING), (parts.saving, SAVING)):
        functions = graphs.function_names(graph)
        for place, node in nodes:
            if node.op in functions or node.op in HARMLESS_STATE | more:
                continue
            if node.op not in registry:
                return f"operation {node.op} of node {node.name}{place} is not known to the server"
            if REACHING_OUT.fullmatch(node.op) or (registry[node.op] and not is_random(node.op)):
                return f"operation {node.op} of node {node.name}{place}"
    return None


def is_random(operation: str) -> bool:
    """Whether an operation draws numbers."""
    return "Random" in operation or operation in ("Multinomial", "TruncatedNormal")
