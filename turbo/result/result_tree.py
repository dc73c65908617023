"""Walks the tree of results: the tasks that a call sent, and theirs.

A base class of the handles on results, in clients and children. It reads the ``children`` of each document, so it reads
the store once per task. Tasks that keep no result or were sent with ``trail`` off are in no document, so they are
missing from the tree.
"""

from __future__ import annotations

from collections import deque
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any, TextIO

from turbo.exceptions import IncompleteStream
from turbo.protocol.result_meta import Handle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class DependencyGraph:
    """A graph of results.

    Its edges lead from a result to the results of the tasks that its task sent.
    """

    def __init__(self) -> None:
        self._sent: dict[Any, list[Any]] = {}

    def add_arc(self, node: Any) -> None:
        """Add a result without children."""
        self._sent.setdefault(node, [])

    def add_edge(self, node: Any, child: Any) -> None:
        """Add ``child`` to the children of ``node``, which must be in the graph."""
        self._sent[node].append(child)

    def edges(self) -> list[Any]:
        """Return the results that have children."""
        return [node for node, children in self._sent.items() if children]

    def topsort(self) -> list[Any]:
        """Return all results, each after its children."""
        return list(TopologicalSorter(self._sent).static_order())

    def items(self) -> Iterator[tuple[Any, list[Any]]]:
        """Yield each result with its children."""
        return iter(self._sent.items())

    def to_dot(self, fh: TextIO, label: Callable[[Any], str] = str) -> None:
        """Write the graph in Graphviz's DOT language.

        ``label`` returns the label of a result.
        """
        fh.write("digraph dependencies {\n")
        for node in self._sent:
            fh.write(f'  "{_quoted(str(node))}" [label="{_quoted(label(node))}"]\n')
        for node, children in self._sent.items():
            for child in children:
                fh.write(f'  "{_quoted(str(node))}" -> "{_quoted(str(child))}"\n')
        fh.write("}\n")

    def __iter__(self) -> Iterator[Any]:
        return iter(self._sent)

    def __getitem__(self, node: Any) -> list[Any]:
        return self._sent[node]

    def __contains__(self, node: object) -> bool:
        return node in self._sent

    def __len__(self) -> int:
        return len(self._sent)


class ResultBase:
    """What every handle on results is an instance of, as in Celery."""

    #: The result of the step before this one in a chain.
    parent: Any = None


class ResultTree(Handle, ResultBase):
    """Walks from a handle to the results of the tasks that its task sent."""

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Yield this result and its descendants as pairs of parent and result.

        Raises IncompleteStream at a task that has not ended, unless ``intermediate``.
        """
        waiting: deque[tuple[Any, Any]] = deque([(None, self)])
        while waiting:
            parent, node = waiting.popleft()
            yield parent, node
            if node.ready():
                waiting.extend((node, child) for child in node.children or ())
            elif not intermediate:
                raise IncompleteStream

    def collect(self, intermediate: bool = False, **options: Any) -> Iterator[tuple[Any, Any]]:
        """Wait for this result and its descendants in turn; yield each with its value.

        ``options`` go to ``get``.
        """
        for _, node in self.iterdeps(intermediate=intermediate):
            yield node, node.get(**options)

    def get_leaf(self) -> Any:
        """Wait for this result and its descendants; return the value of the last one."""
        return deque((value for _, value in self.collect()), maxlen=1).pop()

    def build_graph(self, intermediate: bool = False) -> DependencyGraph:
        """Return the graph of this result and its descendants; raises as :meth:`iterdeps`."""
        graph = DependencyGraph()
        for parent, node in self.iterdeps(intermediate=intermediate):
            graph.add_arc(node)
            if parent is not None:
                graph.add_edge(parent, node)
        return graph

    @property
    def graph(self) -> DependencyGraph:
        """The graph. Raises IncompleteStream if a task has not ended."""
        return self.build_graph()


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
