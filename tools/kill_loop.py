"""Transcribes an archive while its processes are killed, and sees that nothing is lost or torn.

    python tools/kill_loop.py runs/an4/base/model PATH/an4/wav --kills 100

An archive is made of the recordings, some of them broken, and transcribed once in quiet. Then that
is done again and again into new folders: what does it is stopped at a random moment, looked at,
and killed (`kill -9`), and the same command is started again. In turns that is the process that
does it all, and on a Ray cluster of two nodes the driver, a worker and a node. A kill counts where
a file had been recorded since the last start or the last kill. After a kill of the driver no output
may differ from the quiet run's and no record lack its outputs; in the end every file has its output
and its record once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from archive import BROKEN, make_archive
from arguments import at_least
from nights import Night, Processes, WrongOutputError, is_stopped, stage_of
from rich.console import Console
from rich.table import Table

from asr.cluster.ray import import_ray
from asr.errors import UserError
from asr.inputs import find_recordings

VICTIMS = ("process", "driver", "worker", "node")
POLL_S = 0.02
PATIENCE_S = 300.0  # without a file more, before something is wrong


@dataclass
class Killings:
    """What has been killed, in which stage; `early` are the kills that do not count."""

    stages: dict[str, Counter[str]] = field(default_factory=dict)
    early: int = 0
    nights: int = 0

    @property
    def count(self) -> int:
        """Of the kills that count."""
        return sum(counter.total() for counter in self.stages.values())

    def add(self, victim: str, stage: str) -> None:
        """One more that counts."""
        self.stages.setdefault(victim, Counter())[stage] += 1


class Cluster:
    """A Ray cluster of two nodes, one of which can be lost and comes back."""

    def __init__(self) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import_ray()
        from ray.cluster_utils import Cluster as Nodes

        head = {"num_cpus": 1, "include_dashboard": False}
        self._nodes = Nodes(initialize_head=True, head_node_args=head)
        self._second = self._nodes.add_node(num_cpus=1)
        self.address = str(self._nodes.address)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *error: object) -> None:
        self._nodes.shutdown()

    def raylets(self) -> list[int]:
        """Process numbers, the second node's last."""
        nodes = (self._nodes.head_node, self._second)
        return [node.all_processes["raylet"][0].process.pid for node in nodes if node]

    def lose_node(self) -> None:
        """Kill all of the second node's processes, and start another node."""
        self._nodes.remove_node(self._second, allow_graceful=False)
        self._second = self._nodes.add_node(num_cpus=1)


class Loop:
    """Nights until there have been kills enough."""

    def __init__(
        self, options: argparse.Namespace, quiet: Night, cluster: Cluster | None, folder: Path
    ) -> None:
        self.options = options
        self.quiet = quiet
        self.cluster = cluster
        self.folder = folder
        self.random = random.Random(options.seed)
        self.killings = Killings()
        self._victims: list[str] = []

    def run(self) -> Killings:
        """Kill until it is enough; then let the last night end.

        Raises:
            WrongOutputError: something was lost, torn or done twice.
        """
        while self.killings.count < self.options.kills:
            night = Night(self.folder / f"night-{self.killings.nights}", self.quiet.archive)
            while not self._start(night):
                night.check(self.quiet)
            night.check_end(self.quiet)
            self.killings.nights += 1
            shutil.rmtree(night.out)
        return self.killings

    def _start(self, night: Night) -> bool:
        """Start the command and kill something of it, or more; whether it came to its end."""
        victim = self._next_victim()
        words = ["--workers", "1"]
        if victim != "process":
            assert self.cluster is not None
            words = ["--ray", self.cluster.address]
        with night.started(self.options.model, words) as driver:
            while self.killings.count < self.options.kills:
                killed = self._kill_one(night, driver, victim)
                if killed is None:
                    break
                if killed in ("process", "driver"):
                    return False
                victim = self._next_victim(of_cluster=True)
            status = driver.wait(PATIENCE_S * 4)
        if status != self.quiet.status:
            raise WrongOutputError(f"it ended with {status}: {night.said()}")
        return True

    def _next_victim(self, of_cluster: bool = False) -> str:
        """In turns, so that each kind has its share."""
        wanted = [v for v in self.options.victims if not (of_cluster and v == "process")]
        taken = Counter({v: self.killings.stages.get(v, Counter()).total() for v in wanted})
        return min(wanted, key=lambda victim: (taken[victim], self.random.random()))

    def _kill_one(self, night: Night, driver: subprocess.Popen[bytes], victim: str) -> str | None:
        """What was killed once a file had been recorded; None where the command ended before."""
        recorded = night.recorded()
        deadline = time.monotonic() + PATIENCE_S
        while night.recorded() == recorded:
            if driver.poll() is not None:
                return None
            if time.monotonic() > deadline:
                raise WrongOutputError(f"nothing is recorded in {PATIENCE_S:.0f} s: {night.said()}")
            time.sleep(POLL_S)
        time.sleep(self.random.uniform(0.0, self.options.latest_s))
        if driver.poll() is not None:
            return None
        workers = Processes(self.cluster.raylets() if self.cluster else []).workers()
        if victim in ("worker", "node") and not workers:
            self.killings.early += 1  # they are on their way
            return victim
        target = driver.pid if victim in ("process", "driver") else self.random.choice(workers)
        if not is_stopped(target):
            return None
        stage = stage_of(night, target, driver.pid)
        if victim == "node":
            assert self.cluster is not None
            os.kill(target, signal.SIGCONT)
            self.cluster.lose_node()
        else:
            os.kill(target, signal.SIGKILL)
        if victim in ("process", "driver"):
            driver.wait()
        self.killings.add(victim, stage)
        show(f"{self.killings.count}: {victim}, {stage}, {night.recorded()} files recorded")
        return victim


def show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def result_of(killings: Killings, files: int, broken: int, seconds: float) -> dict[str, Any]:
    return {
        "files": files,
        "broken": broken,
        "kills": killings.count,
        "not counted": killings.early,
        "nights": killings.nights,
        "stages": {victim: dict(stages) for victim, stages in killings.stages.items()},
        "seconds": round(seconds),
    }


def print_table(result: dict[str, Any]) -> None:
    stages = sorted({stage for found in result["stages"].values() for stage in found})
    table = Table(title=f"{result['kills']} kills in {result['nights']} nights")
    for column in ("killed", *stages, "in all"):
        table.add_column(column, justify="left" if column == "killed" else "right")
    for victim, found in result["stages"].items():
        counts = [str(found.get(stage, 0)) for stage in stages]
        table.add_row(victim, *counts, str(sum(found.values())))
    Console(highlight=False, width=140).print(table)
    print(
        f"{result['files']} files, {result['broken']} of them broken; {result['seconds']} s: every"
        " file once, every output that of the quiet run"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", help="a trained model's folder")
    parser.add_argument("inputs", nargs="+", help="recordings of which the archive is made")
    parser.add_argument("--files", type=at_least(1), default=1000)
    parser.add_argument("--broken", type=float, default=BROKEN, help="share of broken files")
    parser.add_argument("--kills", type=at_least(1), default=100)
    parser.add_argument("--victims", default=",".join(VICTIMS), help="some of the four")
    parser.add_argument(
        "--latest-s", type=float, default=3.0, help="a kill comes so long after the first record"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    options.victims = options.victims.split(",")
    if not set(options.victims) <= set(VICTIMS):
        parser.error(f"--victims can be {', '.join(VICTIMS)}")
    recordings, _ = find_recordings(options.inputs)
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nights-")))
        sources = [Path(recording.path) for recording in recordings]
        broken = make_archive(sources, folder / "archive", options.files, options.broken)
        quiet = Night(folder / "quiet", folder / "archive")
        with quiet.started(options.model, ["--workers", "1"]) as driver:
            quiet.status = driver.wait()
        quiet.check_quiet(options.files, len(broken))
        cluster = None
        if set(options.victims) != {"process"}:
            cluster = stack.enter_context(Cluster())
        killings = Loop(options, quiet, cluster, folder).run()
    result = result_of(killings, options.files, len(broken), time.monotonic() - began)
    if options.json:
        print(json.dumps(result))
    else:
        print_table(result)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (UserError, WrongOutputError) as error:
        sys.exit(f"kill_loop: {error}")
