"""A served model as a function from texts to answers. Over REST it imports no tensorflow."""

import copy
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np

from export.answers import Answer, Answers
from export.checked import checked, columns_of, merged, nothing, rows_of
from export.failures import BadAnswer, NotServed, RequestFailed, TryAgain, out_of_time, quoted
from export.input_order import InputOrder, order_of
from export.request_schema import RequestSchema
from export.transport import Columns, Model, Reply, Signature, Spec, Tls, connect
from pipeline.features.columns import Category, Column, FeatureColumn, Number, Vector

Found = TypeVar("Found")
# Seconds; more is no timeout that a socket takes.
LONGEST = 86_400.0


@dataclass(frozen=True)
class Limits:
    """How requests are made.

    Attributes:
        timeout: seconds that a call of the client may take, with all its requests and their attempts.
        attempts: how often a request is sent at most.
        batch_size: texts a request.
        parallel: requests of a call at a time.
    """

    timeout: float = 30.0
    attempts: int = 5
    batch_size: int = 32
    parallel: int = 4

    def check(self) -> None:
        """Raises RequestFailed where a limit is none."""
        if not 0 < self.timeout <= LONGEST:
            raise RequestFailed(f"timeout must be above 0, and {LONGEST:.0f} seconds at most.")
        if min(self.attempts, self.batch_size, self.parallel) < 1:
            raise RequestFailed("timeout, attempts, batch_size and parallel must be above 0.")


DEFAULT_LIMITS = Limits()


class _Known(NamedTuple):
    """What the server said last."""

    version: int | None
    signature: Signature


@dataclass
class _Call:
    """What requests that belong together share."""

    end: float
    known: _Known | None = None
    """What the server said since the call began."""
    over: threading.Event = field(default_factory=threading.Event)
    """One of them has failed for good."""

    def left(self) -> float:
        return self.end - time.monotonic()


class Client:
    """A served model as a function from texts to answers.

    Many texts are cut into requests of `limits.batch_size`, of like length to save padding, of which at most
    `limits.parallel` are under way. All are answered by one version: the one that the label, or the newest, means at
    the beginning; where it is withdrawn meanwhile, all are asked again, once, of its successor. A request that the
    server cannot take now (UNAVAILABLE, RESOURCE_EXHAUSTED; HTTP 429, 502, 503, 504; no connection) is sent again,
    after what the server asks to wait, or a random time that grows up to 2 seconds. Answers that do not fit the
    signature are refused.

    One client serves any number of threads, and keeps its connections. From asyncio: `await asyncio.to_thread(client,
    texts)`.

    Example:
        with Client("localhost:8500", model="news", label="stable") as client:
            client("some text")["label"]                        one text: an Answer
            answers = client(["some text", "another"])          several: Answers
            answers.labels, answers["score"], answers.version

    Args:
        target: host:port, with an IPv6 address in brackets; of tensorflow_model_server's image 8500 is gRPC, 8501 REST.
        model: the name that it is served under.
        protocol: "grpc" or "rest".
        signature: of the SavedModel.
        version, label: at most one of them; neither: the newest version.
        limits: time, attempts and sizes of requests.
        tls: root certificates and the client's own; None: no encryption.

    Raises:
        RequestFailed: wrong arguments, a file of `tls` that is none, or a proxy in the environment that is none.
        UserError: "grpc" without the extra `client`.
    """

    def __init__(
        self,
        target: str,
        *,
        model: str,
        protocol: str = "grpc",
        signature: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
        tls: Tls | None = None,
    ):
        if protocol not in ("grpc", "rest"):
            raise RequestFailed(f"protocol {protocol!r}: it is grpc or rest.")
        if not model:
            raise RequestFailed("the model has no name: give the one that it is served under.")
        if version is not None and label:
            raise RequestFailed(f"version {version} and label {label!r}: give one of them.")
        if version is not None and not 0 <= version < 2**63:
            raise RequestFailed(f"version {version}: it is a number from 0 to {2**63 - 1}.")
        limits.check()
        self._model = Model(model, signature, version, label)
        self._transport = connect(protocol, target, tls)
        self._limits = limits
        self._known: _Known | None = None
        self._schema: RequestSchema | None = None

    @overload
    def __call__(self, *texts: str | bytes) -> Answer: ...
    @overload
    def __call__(self, *texts: Sequence[str | bytes]) -> Answers: ...
    def __call__(self, *texts: Any) -> Answer | Answers:
        """Answer any number of texts, in their order.

        Args:
            texts: a text or a list of texts for each input of the signature, in the order of `inputs`; lists of one
                length. Where nobody says that this order is the model's own (`order.known`) they are refused:
                `predict` takes them by their names.

        Returns:
            Of lists the outputs of all, with the version that answered; of single texts their outputs by name.

        Raises:
            RequestFailed: the server refuses, texts are none, the lists or their order are not the model's, or a row
                does not fit the schema.
            NotServed: it has no such model, version or label.
            BadAnswer: what came is no answer to what was asked.
            TryAgain: it was not available, or too busy, at any attempt.
            OutOfTime: the call took longer than the timeout.
        """
        call = self._begin()
        names, _, known = self._order(call)
        if len(texts) != len(names):
            lists = f"{len(texts)} lists of texts"
            raise RequestFailed(f"{self._model} takes {quoted(' and '.join(names))}, not {lists}.")
        if not known:
            raise RequestFailed(
                f"{self._model} takes {quoted(' and '.join(names))}, in an order that its server does not tell: ask by "
                "name, client.predict({name: [...], ...}), or give the schema of its export, client.held_to(path)."
            )
        single = all(isinstance(text, str | bytes) for text in texts)
        columns = [[text] for text in texts] if single else texts
        answers = self._answer(dict(zip(names, columns, strict=True)), call)
        return answers[0] if single else answers

    def predict(self, inputs: Mapping[str, Sequence]) -> Answers:
        """As __call__, with lists by the name of an input: texts, or numbers where the signature takes such."""
        return self._answer(inputs, self._begin())

    def pinned(self) -> "Client":
        """A client of the version that the label, or the newest, means now, for calls that belong together.

        It shares the connections of this one. Once that version is withdrawn it raises NotServed. A server that does
        not say which version it is cannot be pinned: then this client itself.
        """
        known = self._ask_known(self._begin())
        if known.version is None:
            return self
        client = copy.copy(self)
        client._model, client._known = self._model._replace(version=known.version, label=None), known
        return client

    def held_to(self, schema: str | Path) -> "Client":
        """A client that holds rows against request.schema.json of the model's export before it sends them, and knows
        from it the order of the inputs; this one knows the types of the signature alone. It shares the connections of
        this one.

        Raises:
            RequestFailed: the file is none.
            UserError: without the extra `client`.
        """
        client = copy.copy(self)
        client._schema = RequestSchema(schema)
        return client

    @property
    def inputs(self) -> list[str]:
        """Names of the signature's inputs, asked once; in the model's own order if that can be known (`order`)."""
        return self.order.names

    @property
    def order(self) -> InputOrder:
        """The signature's inputs, and whether their order is the model's: `held_to` knows it of any model, the server's
        word alone of one text, a pair, and one column beside these."""
        return self._order(self._begin())

    @property
    def outputs(self) -> list[str]:
        """Names of the signature's outputs."""
        return list((self._known or self._ask_known(self._begin())).signature.outputs)

    @property
    def columns(self) -> list[FeatureColumn]:
        """The inputs that are not known to be texts, each a column of its name; the last of `inputs`."""
        call = self._begin()
        names, texts, _ = self._order(call)
        specs = (self._known or self._ask_known(call)).signature.inputs
        return [FeatureColumn(name, _kind_of(specs[name]), "the input") for name in names[texts:]]

    def versions(self) -> dict[int, str]:
        """State of each version that the server knows of, such as {1: "AVAILABLE"}; with a version, only its own."""
        return self._try(lambda timeout: self._transport.versions(self._model, timeout), self._begin())

    def close(self) -> None:
        """Close the connections, also those of pinned clients."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _begin(self) -> _Call:
        return _Call(time.monotonic() + self._limits.timeout)

    def _order(self, call: _Call) -> InputOrder:
        return order_of((self._known or self._ask_known(call)).signature.inputs, self._schema)

    def _ask_known(self, call: _Call) -> _Known:
        found = self._try(lambda timeout: self._transport.metadata(self._model, timeout), call)
        if self._model.signature not in found.signatures:
            names = quoted(", ".join(sorted(found.signatures)))
            raise RequestFailed(f"{self._model} has no signature {self._model.signature!r} but {names}.")
        self._known = call.known = _Known(found.version, found.signatures[self._model.signature])
        return call.known

    def _answer(self, inputs: Mapping[str, Any], call: _Call) -> Answers:
        lists, known = rows_of(inputs), call.known or self._known
        several = len(next(iter(lists.values()), ())) > self._limits.batch_size
        if known is None or (several and self._model.version is None and not call.known):
            known = self._ask_known(call)
        try:
            return self._answer_as(known, lists, call)
        except (NotServed, BadAnswer):
            # The version may have been replaced, and its signature with it.
            fresh = known if self._model.version is not None else self._ask_known(call)
            if fresh == known:
                raise
            return self._answer_as(fresh, lists, call)

    def _answer_as(self, known: _Known, lists: dict[str, list], call: _Call) -> Answers:
        columns = columns_of(lists, known.signature, self._model, self._schema)
        count, size, model = len(next(iter(columns.values()))), self._limits.batch_size, self._model
        if not count:
            return Answers(nothing(known.signature))
        order = np.arange(count)
        if count > size:
            texts = [column for column in columns.values() if column.dtype == object]
            order = np.array(sorted(range(count), key=lambda i: sum(len(column[i]) for column in texts)))
            if known.version is not None:
                model = model._replace(version=known.version, label=None)
        parts = [{name: column[rows] for name, column in columns.items()} for rows in _cut(order, size)]
        replies = self._ask_all(model, known.signature, parts, call)
        return Answers(merged(replies, order, f"{self._transport.target} answered {model}"), version=replies[0].version)

    def _ask_all(self, model: Model, signature: Signature, parts: list[dict], call: _Call) -> list[Reply]:
        if len(parts) == 1:
            return [self._ask(model, signature, parts[0], call)]
        together = _Call(call.end)
        pool = ThreadPoolExecutor(min(self._limits.parallel, len(parts)))
        try:
            futures = [pool.submit(self._ask, model, signature, part, together) for part in parts]
            for future in as_completed(futures):
                future.result()
            return [future.result() for future in futures]
        finally:
            together.over.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, model: Model, signature: Signature, columns: Columns, call: _Call) -> Reply:
        reply = self._try(lambda timeout: self._transport.predict(model, signature, columns, timeout), call)
        rows, place = len(next(iter(columns.values()))), f"{self._transport.target} answered {model}"
        outputs = checked(reply.outputs, signature, rows, place)
        if model.version is not None and reply.version not in (None, model.version):
            raise BadAnswer(f"{place} by version {reply.version}.")
        return Reply(outputs, model.version if reply.version is None else reply.version)

    def _try(self, send: Callable[[float], Found], call: _Call) -> Found:
        """send(seconds left), again while it raises TryAgain and there is time."""
        attempt = 1
        while True:
            left = call.left()
            if left <= 0:
                raise out_of_time(self._transport.target, self._model)
            try:
                return send(left)
            except TryAgain as error:
                pause = max(random.uniform(0.05, min(0.1 * 2**attempt, 2.0)), error.wait or 0.0)
                if attempt == self._limits.attempts or pause >= call.left() or call.over.wait(pause):
                    raise
            attempt += 1


def _kind_of(spec: Spec) -> type[Column]:
    if spec.dtype is None or spec.dtype.kind == "O":
        return Category
    return Number if spec.shape is None or len(spec.shape) == 1 else Vector


def _cut(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[start : start + size] for start in range(0, len(order), size)]
