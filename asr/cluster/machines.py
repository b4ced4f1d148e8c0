"""Work that takes several machines at once, on Ray Train: it ends on all of them, or begins again.

Ray Train finds the machines, notices when one is lost, and begins again, on another if it must.
What else it offers is not used: checkpoints are the work's own, in a folder that the machines
share, and what is said comes back as it is, not through Ray's logs.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from asr.cluster.exchange import Exchange, LostError, Machine
from asr.cluster.ray import first_line, start_ray
from asr.errors import UserError
from asr.training.signals import Signals

LISTEN_S = 0.2  # how often what the machines say is asked for
PATIENCE_S = 60.0  # for room in the cluster, before that is said
LOST = 1  # exit status where a machine, or the cluster, was lost for good


@dataclass(frozen=True)
class Needs:
    """Machines, each with `processes` cores and, unless `accelerator` is cpu, as many GPUs.

    With `auto` GPUs are asked for where the cluster has any. The work begins again `restarts`
    times.
    """

    machines: int
    processes: int
    accelerator: str
    restarts: int


def run_on_machines(
    work: Callable[[Machine], None],
    needs: Needs,
    address: str | None,
    show: Callable[[bytes], None],
) -> int:
    """Do the work on all machines at once; its exit status.

    Args:
        work: done on each machine; returns when it has ended there, and raises `LostError` where
            it has to begin again. It is pickled by its module's name.
        needs: how many machines, of what kind.
        address: of the Ray cluster; None: one is started on this machine, which is then the one.
        show: takes what the machines say.

    Raises:
        UserError: the cluster cannot be reached, or has no such machines.
    """
    if address is None and needs.machines > 1:
        raise UserError(
            f"trainer.nodes={needs.machines} with cluster=ray: say where the cluster is, with"
            " cluster.address=HOST:PORT, or auto on one of its machines."
        )
    if address is not None and address.startswith("ray://"):
        raise UserError(
            f"cluster.address={address}: training is started on a machine of the cluster, with"
            " HOST:PORT or auto; ray job submit does that from elsewhere."
        )
    # Read when Ray Train is imported: processes stay in their folder; no figures for a dashboard;
    # nothing looks out for machines that are about to be taken away: they are lost like any others.
    for name in ("CHDIR_TO_TRIAL_DIR", "TRAIN_METRICS_ENABLED", "TRAIN_ENABLE_PREEMPTION_WATCHER"):
        os.environ[f"RAY_{name}"] = "0"
    # From the beginning: an interrupt in the middle of an import may leave Python's lock of imports
    # held, for which other threads then wait for ever.
    with Signals() as signals, _silent_stdout():
        try:
            ray = start_ray(address, needs.processes, {})
        except SystemExit:  # how Ray's own answer to SIGTERM ends its start
            if signals.received is None:
                raise
            return _stopped_by(signals.received, show)
        with tempfile.TemporaryDirectory(prefix="asr-ray-") as storage:
            try:
                if signals.received is not None:
                    return _stopped_by(signals.received, show)
                trainer, exchange = _trainer(ray, work, needs, storage)
                return _follow(ray, trainer, exchange, needs, show, signals)
            finally:
                ray.shutdown()


@contextlib.contextmanager
def _silent_stdout() -> Iterator[None]:
    """Whatever Ray logs, it prints there what became of its workers."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _stopped_by(number: int, show: Callable[[bytes], None]) -> int:
    name = signal.Signals(number).name
    show(f"asr: stopped by {name} while Ray was starting; the same command goes on\n".encode())
    return 128 + number


def _follow(
    ray: Any,
    trainer: Any,
    exchange: Any,
    needs: Needs,
    show: Callable[[bytes], None],
    signals: Signals,
) -> int:
    """Show what is said, and pass signals on, until it is over; the exit status."""
    passed_on: int | None = None
    waiting_since = time.monotonic()
    # Ray Train would answer signals itself in the main thread, by killing everything.
    running = _in_background(trainer.fit)
    try:
        while not running.done():
            if signals.received != passed_on:
                passed_on = signals.received
                assert passed_on is not None
                if not ray.get(exchange.stop.remote(passed_on)):
                    return _stopped_by(passed_on, show)
            heard = ray.get(exchange.heard.remote())
            show(heard.said)
            if heard.begun:
                waiting_since = time.monotonic()
            elif time.monotonic() - waiting_since > PATIENCE_S:
                waiting_since = math.inf
                show(
                    f"asr: still waiting for Ray: trainer.devices={needs.processes} have to be free"
                    f" on trainer.nodes={needs.machines} (ray status shows what is)\n".encode()
                )
            time.sleep(LISTEN_S)
        heard = ray.get(exchange.heard.remote())
        show(heard.said)
        if heard.status is None:
            running.result()
        return heard.status or 0
    except ray.train.WorkerGroupError as error:
        what, lost = blamed(error.worker_failures, needs.machines)
        show(
            f"asr: {what}; cluster.max_failures={needs.restarts} is used up."
            " The same command goes on from the last checkpoint.\n".encode()
        )
        return lost
    except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
        why = first_line(getattr(error, "controller_failure", error))
        show(f"asr: Ray gave up: {why}\n".encode())
        return LOST


def _trainer(
    ray: Any, work: Callable[[Machine], None], needs: Needs, storage: str
) -> tuple[Any, Any]:
    """Ray Train's trainer, and the exchange with its workers."""
    # What `ray.train` gives under these names depends on the environment; and its TorchTrainer
    # would have the workers themselves make a group of torch, which the ranks do.
    from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    room = _room(ray, needs)
    exchange = _exchange(ray)

    class Trainer(DataParallelTrainer):
        """Without processes that have nothing to do here.

        One serves datasets. The other frees what was taken, which the end of this process does; it
        asks a dashboard, and where there is none that delays the end by 12 s.
        """

        def _create_default_callbacks(self) -> list[Any]:
            unused = ("DatasetsCallback", "PlacementGroupCleanerCallback")
            callbacks = super()._create_default_callbacks()
            return [each for each in callbacks if type(each).__name__ not in unused]

    run_config: Any = RunConfig(
        name="asr",
        storage_path=storage,
        failure_config=FailureConfig(max_failures=needs.restarts),
        callbacks=[_restarts(needs, exchange)],
        logging_config=LoggingConfig("ERROR"),
    )
    trainer = Trainer(
        _on_machine,
        train_loop_config={"work": work, "exchange": exchange},
        scaling_config=ScalingConfig(
            num_workers=needs.machines,
            use_gpu="GPU" in room,
            resources_per_worker=room,
            placement_strategy="STRICT_SPREAD" if needs.machines > 1 else "PACK",
        ),
        run_config=run_config,
    )
    return trainer, exchange


def _room(ray: Any, needs: Needs) -> dict[str, int]:
    """What is taken of each machine.

    Raises:
        UserError: too few have as much.
    """
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = {"CPU": needs.processes}
    if needs.accelerator == "gpu" or (
        needs.accelerator == "auto" and any(machine.get("GPU", 0) for machine in machines)
    ):
        room["GPU"] = needs.processes
    fitting = [
        machine
        for machine in machines
        if all(machine.get(kind, 0) >= amount for kind, amount in room.items())
    ]
    if len(fitting) < needs.machines:
        kinds = " and ".join(f"{amount} {kind}s" for kind, amount in room.items())
        raise UserError(
            f"trainer.devices={needs.processes}, trainer.nodes={needs.machines}: of Ray's machines"
            f" {len(fitting)} have {kinds}."
        )
    return room


def _exchange(ray: Any) -> Any:
    """Where this process is, which ends with it anyway."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Exchange).remote()


def _restarts(needs: Needs, exchange: Any) -> Any:
    """What tells, from within Ray Train, that the work begins again."""
    from ray.train import UserCallback

    class Restarts(UserCallback):
        count = 0

        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Any]) -> None:
            self.count += 1
            if self.count <= needs.restarts:
                what, _ = blamed(worker_exceptions, needs.machines)
                again = f"begins again from the last checkpoint ({self.count} of {needs.restarts})"
                exchange.begin_again.remote(f"{what}; {again}")

    return Restarts()


def _on_machine(config: Mapping[str, Any]) -> None:
    """What Ray Train runs on each machine."""
    import ray
    from ray.train import get_context

    ray.get(config["exchange"].begin.remote())
    context, address = get_context(), ray.util.get_node_ip_address()
    number, count = context.get_world_rank(), context.get_world_size()
    config["work"](Machine(number, count, address, config["exchange"]))


def blamed(failures: Mapping[int, Any], machines: int) -> tuple[str, int]:
    """What was lost, and the exit status. One that was killed often takes others along."""
    found = []
    for number, failure in failures.items():
        cause = getattr(failure, "_base_exc", failure)
        if isinstance(cause, LostError):
            found.append((cause.status < 128, cause.what, cause.status))
        else:
            found.append(
                (False, f"Ray's worker on machine {number + 1} of {machines} was lost", LOST)
            )
    _, what, status = min(found)
    return what, status


def _in_background(call: Callable[[], Any]) -> Future[Any]:
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
