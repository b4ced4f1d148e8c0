"""Whether each node of a Ray cluster can do the work: found out before the first file fails there.

A node is asked by a task that is pinned to it: for its version of this package, whether it sees
recordings and model as they are seen here, and whether what is written here can be read there and
the other way round.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import asr
from asr.cluster.actors import why_it_did_not_begin
from asr.description import DESCRIPTION
from asr.errors import UserError
from asr.files import DIGEST_BYTES, digest_file, explain_write_errors

SAMPLE = 20  # of the inputs: they lie in few places
ANSWER_S = 60.0  # a node that hangs over a file system takes longer, or for ever
TOLD_NODES = 3  # in an error: the others lack the same as a rule
TOKEN_NAME = ".asr-token-"


@dataclass(frozen=True)
class Sight:
    """What a node has to see: files with their sizes, the model's digest, a token in `out`.

    `files` are the decoder's, with their digests.
    """

    source: str
    inputs: tuple[tuple[str, int], ...]
    model: tuple[str, str] | None
    out: str
    token: str
    files: tuple[tuple[str, str], ...] = ()


def check_nodes(
    ray: Any,
    inputs: Sequence[str],
    model: str | None,
    out: str,
    files: Sequence[str] = (),
) -> None:
    """Find out what nodes lack. Those without a core do no work and are not asked.

    Args:
        ray: the module, connected to the cluster.
        inputs: paths that are there; some of them, from the first to the last, are looked for.
        model: a model's folder; None where none is used.
        out: the folder that is written into; it is there.
        files: of which a node needs the same ones: the decoder's.

    Raises:
        UserError: names a node and what it lacks.
    """
    nodes = {
        node["NodeID"]: f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
    }
    token = secrets.token_hex(8)
    with _token(Path(out) / f"{TOKEN_NAME}{token}", token):
        described = (model, _digest_of(model) or "") if model else None
        digests = tuple((path, digest_file(path)) for path in files)
        sight = Sight(source_digest(), _sizes(inputs), described, out, token, digests)
        faults = _ask(ray, nodes, sight)
        for node in nodes:
            answer = Path(out) / f"{TOKEN_NAME}{token}-{node}"
            if not faults[node] and _read(answer) != token:
                faults[node] = f"what it writes into {out} is not seen here"
    # A node that was lost a moment ago is listed until that has been noticed.
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    lacking = [
        f"node {nodes[node]}: {faults[node]}" for node in nodes if faults[node] and node in alive
    ]
    if lacking:
        more = len(lacking) - TOLD_NODES
        raise UserError(
            f"{'; '.join(lacking[:TOLD_NODES])}{f'; and {more} more nodes' if more > 0 else ''}."
            " All nodes need the same asr, and recordings, model and output folder under the same"
            " paths."
        )


def look(sight: Sight, node: str) -> str:
    """What this machine lacks, '' where it lacks nothing; leaves a token of its own, if it can."""
    if source_digest() != sight.source:
        return f"its asr {asr.__version__} is of other source files"
    for path, size in sight.inputs:
        found = _size(path)
        if found != size:
            what = "does not see" if found is None else f"sees {found} bytes, not {size}, in"
            return f"it {what} the recording {path}"
    if sight.model:
        model, digest = sight.model
        if (seen := _digest_of(model)) != digest:
            what = "has another model under" if seen else "does not see the model"
            return f"it {what} {model}"
    for path, digest in sight.files:
        try:
            if digest_file(path) != digest:
                return f"it has another file under {path}"
        except OSError:
            return f"it does not see {path}"
    if _read(Path(sight.out) / f"{TOKEN_NAME}{sight.token}") != sight.token:
        return f"it does not see what is written here into {sight.out}"
    try:
        (Path(sight.out) / f"{TOKEN_NAME}{sight.token}-{node}").write_text(sight.token)
    except OSError as error:
        return f"it cannot write into {sight.out}: {error.strerror}"
    return ""


def source_digest() -> str:
    """Of this package's modules, recipes aside: the same version may have been edited."""
    package = Path(asr.__file__).parent
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not name.startswith("recipes/"):  # where a wheel has them
            digest.update(f"{name} {digest_file(path)}\n".encode())
    return digest.hexdigest()


def _ask(ray: Any, nodes: dict[str, str], sight: Sight) -> dict[str, str]:
    """What each node lacks, '' where it lacks nothing."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    version = asr.__version__

    # Of a function within another one Ray sends the code, and of a module's only the name: so this
    # one runs whatever asr the node has.
    def look_around(values: tuple[Any, ...], node: str) -> str:
        try:
            import asr
        except ImportError as error:
            return f"it has no asr: {error}"
        if asr.__version__ != version:
            return f"it has asr {asr.__version__}, not {version}"
        from asr.cluster.nodes import Sight, look

        return look(Sight(*values), node)

    pending = {
        ray.remote(num_cpus=0, max_retries=0)(look_around)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
        .remote(astuple(sight), node): node
        for node in nodes
    }
    ready, _ = ray.wait(list(pending), num_returns=len(pending), timeout=ANSWER_S)
    faults = dict.fromkeys(nodes, f"it has not answered within {ANSWER_S:g} s")
    for reference in ready:
        try:
            faults[pending[reference]] = ray.get(reference)
        except ray.exceptions.RayError as error:
            faults[pending[reference]] = why_it_did_not_begin(ray, error)[1]
    return faults


@contextlib.contextmanager
def _token(path: Path, content: str) -> Iterator[None]:
    """A file that is there for a while, and with it what is written beside it under its name."""
    try:
        with explain_write_errors(path):
            path.write_text(content)
        yield
    finally:
        for each in path.parent.glob(f"{path.name}*"):
            each.unlink(missing_ok=True)


def _read(path: Path) -> str | None:
    """What a file says; None where it is not seen."""
    try:
        return path.read_text()
    except OSError:
        return None


def _size(path: str) -> int | None:
    """In bytes; None where it is not seen."""
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _sizes(paths: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Of some of the files, spread over all of them; of those that are there."""
    step = max(1, -(-len(paths) // SAMPLE))
    chosen = [(path, _size(path)) for path in paths[::step]]
    return tuple((path, size) for path, size in chosen if size is not None)


def _digest_of(model: str) -> str | None:
    """Of what describes a model, its weights' digest included; None where it is not seen."""
    try:
        return digest_file(Path(model) / DESCRIPTION)
    except OSError:
        return None
