"""Work that takes several machines at once, on Ray Train: it ends on all of them, or begins again.

Ray Train finds the machines, notices when one is lost, and begins again, on another if it must.
What else it offers is not used: checkpoints are the work's own, in a folder that the machines
share, and what is said comes back as it is, not through Ray's logs.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from asr.cluster.executor import first_line, import_ray, start_ray
from asr.errors import UserError
from asr.training.signals import Signals

LISTEN_S = 0.2  # how often what the machines say is asked for
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


@dataclass(frozen=True)
class News:
    """What a machine should know: signals to pass on, and whether the work has ended elsewhere."""

    signals: tuple[int, ...]
    ended: bool


@dataclass(frozen=True)
class Machine:
    """One of the machines that do the work, and its line to the one who asked for it."""

    number: int
    count: int
    address: str
    exchange: Any

    def agree(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        """What the first machine says here; each one has to ask."""
        from ray.train.collective import broadcast_from_rank_zero

        agreed: tuple[Any, ...] = broadcast_from_rank_zero(value)
        return agreed

    def news(self) -> News:
        """What has come since."""
        return _get(self.exchange.news.remote())

    def say(self, data: bytes) -> None:
        """Show it to the one who asked."""
        self.exchange.say.remote(data)

    def end(self, status: int) -> None:
        """The work ends here with a status, and has to everywhere: not to be begun again."""
        _get(self.exchange.end.remote(status))


class LostError(Exception):
    """A process was lost; the work has to begin again. `status` is the exit status it comes to."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what, status)
        self.what = what
        self.status = status


class Exchange:
    """Between the machines and the one who asked: an actor, on the asking machine."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.said = b""
        self.begun = False
        self.status: int | None = None

    def begin(self) -> None:
        """A machine has begun."""
        self.begun = True

    def news(self) -> News:
        """For the machines."""
        return News(tuple(self.signals), self.status is not None)

    def say(self, data: bytes) -> None:
        """To be shown."""
        self.said += data

    def end(self, status: int) -> None:
        """Of several that end the first one counts."""
        self.status = status if self.status is None else self.status

    def stop(self, number: int) -> bool:
        """Pass a signal on; whether there is anybody to hear it."""
        self.signals.append(number)
        return self.begun

    def heard(self) -> tuple[bytes, int | None]:
        """What has been said since the last time, and the status if the work has ended."""
        said, self.said = self.said, b""
        return said, self.status


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
    # Read when Ray Train is imported: processes stay in their folder; no figures for a dashboard.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    os.environ["RAY_TRAIN_METRICS_ENABLED"] = "0"
    # From the beginning: an interrupt in the middle of an import may leave Python's lock of imports
    # held, for which other threads then wait for ever.
    with Signals() as signals:
        try:
            ray = start_ray(address, needs.processes, {})
            with tempfile.TemporaryDirectory(prefix="asr-ray-") as storage:
                return _run(ray, work, needs, storage, show, signals)
        except SystemExit:  # how `start_ray` is ended
            if signals.received is None:
                raise
            return 128 + signals.received
        finally:
            import_ray().shutdown()


def _run(
    ray: Any,
    work: Callable[[Machine], None],
    needs: Needs,
    storage: str,
    show: Callable[[bytes], None],
    signals: Signals,
) -> int:
    exchange = _exchange(ray)
    trainer = _trainer(ray, work, needs, storage, exchange)
    passed_on: int | None = None
    try:
        # Ray Train would answer signals itself in the main thread, by killing everything.
        running = _in_background(trainer.fit)
        while not running.done():
            if signals.received != passed_on:
                passed_on = signals.received
                assert passed_on is not None
                if not ray.get(exchange.stop.remote(passed_on)):
                    return 128 + passed_on
            show(ray.get(exchange.heard.remote())[0])
            time.sleep(LISTEN_S)
        said, status = ray.get(exchange.heard.remote())
        show(said)
        running.result()
        return status or 0
    except ray.train.WorkerGroupError as error:
        what, lost = blamed(error.worker_failures, needs.machines)
        show(f"asr: {what}. The same command goes on from the last checkpoint.\n".encode())
        return lost
    except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
        why = first_line(getattr(error, "controller_failure", error))
        show(f"asr: Ray gave up: {why}\n".encode())
        return LOST


def _exchange(ray: Any) -> Any:
    """Where this process is, which ends with it anyway."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Exchange).remote()


def _trainer(
    ray: Any, work: Callable[[Machine], None], needs: Needs, storage: str, exchange: Any
) -> Any:
    # What `ray.train` gives under these names depends on the environment; and its TorchTrainer
    # would have the workers themselves make a group of torch, which the ranks do.
    from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

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
    run_config: Any = RunConfig(
        name="asr",
        storage_path=storage,
        failure_config=FailureConfig(max_failures=needs.restarts),
        callbacks=[_restarts(needs, exchange)],
        logging_config=LoggingConfig("ERROR"),
    )
    return DataParallelTrainer(
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
                exchange.say.remote(f"asr: {what}; {again}\n".encode())

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
            found.append((False, f"machine {number + 1} of {machines} was lost to Ray", LOST))
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


def _get(reference: Any) -> Any:
    return import_ray().get(reference)
