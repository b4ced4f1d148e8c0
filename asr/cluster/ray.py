"""Ray, started on this machine or found by its address; imported only where it is used."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from asr.errors import UserError

OBJECT_STORE_BYTES = 100 * 2**20  # paths and records only; Ray's own minimum is 75 MB
ADDRESS_TIMEOUT_S = 5.0


def start_ray(address: str | None, cores: int, variables: Mapping[str, str]) -> Any:
    """Ray's module, connected to the cluster at `address`, or to one of its own on this machine.

    Args:
        address: HOST:PORT, ray://HOST:PORT or auto; None: a cluster of this process's own, which
            has `cores` and ends with it.
        cores: how many processes it runs at a time.
        variables: of the environment of its processes.

    Raises:
        UserError: it does not answer, or cannot be started.
    """
    if address is not None:
        _check_address(address)
    ray = import_ray()
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "configure_logging": False,
        "runtime_env": {"env_vars": {**_worker_environment(), **variables}},
    }
    if address is None:
        options |= {
            "num_cpus": cores,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    for attempts_left in (1, 0) if address is None else (0,):
        try:
            # "local" keeps RAY_ADDRESS or a cluster that happens to run here from being joined.
            with _own_answer_to_sigterm(), _silent_stderr():
                ray.init(address=address or "local", **options)
            break
        except Exception as error:  # a node too busy to start raises just that
            ray.shutdown()
            if attempts_left:
                continue
            why = first_line(error).rstrip(".")
            raise UserError(
                f"Ray could not be started on this machine: {why}. One worker does without it."
                if address is None
                else f"Ray at {address} cannot be used: {why}. It may be of another version, or"
                " want a token (RAY_AUTH_MODE=token)."
            ) from error
    return ray


def first_line(error: Exception) -> str:
    """What an error of Ray's says, without its traceback."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check_address(address: str) -> None:
    """Knocks at HOST:PORT, since Ray itself tries for ten minutes."""
    found = _found_address() if address == "auto" else address
    host, colon, port = found.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        raise UserError(
            f"The address of a Ray cluster is {address!r}; give HOST:PORT, ray://HOST:PORT or auto."
        )
    try:
        socket.create_connection((host, int(port)), timeout=ADDRESS_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"No Ray cluster answers at {found}: {error}. Check the address, or leave it out."
        ) from None


def _found_address() -> str:
    """Of the cluster that `auto` means: RAY_ADDRESS, or what `ray start` last noted here."""
    import_ray()
    from ray._private.services import canonicalize_bootstrap_address

    try:
        return str(canonicalize_bootstrap_address("auto"))
    except ConnectionError:
        raise UserError(
            "auto: no Ray cluster runs on this machine. ray start begins one."
        ) from None


@contextlib.contextmanager
def _own_answer_to_sigterm() -> Iterator[None]:
    """Keeps what this process does when asked to stop: `ray.init` puts its own in its place."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    own = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:  # how Ray's handlers end a start that is under way
        if callable(own):
            own(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, own)


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Ray's part in C++ logs its attempts there, past everything that Python could set."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def import_ray() -> Any:
    """Ray's module, silent and without telemetry.

    Raises:
        UserError: it is not installed.
    """
    # Read when Ray is imported: no telemetry; and its new way with CUDA_VISIBLE_DEVICES, of which
    # it would otherwise warn.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise UserError(
            "Ray is not installed: pip install 'ray[train]', or do without it, with one"
            " worker on this machine."
        ) from None

    # `ray.init` warns before it looks at the level it is given; and a thread of its own prints
    # pages on stdout for each process that is lost, `log_to_driver` or not.
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray._private.worker._worker_logs_enabled = False
    return ray


def _worker_environment() -> dict[str, str]:
    """The package is found where it is found here, installed or not."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        "PYTHONPATH": os.pathsep.join(paths),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
