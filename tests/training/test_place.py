"""Which process this is, from what starts it."""

from __future__ import annotations

from asr.training.place import Place, place

TORCHRUN = {
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "29500",
}
SLURM = {
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "6",
    "SLURM_STEP_ID": "0",
    "SLURM_TASKS_PER_NODE": "4(x2)",
}


def test_a_process_that_nothing_started_with_others_has_no_place() -> None:
    assert place({}) is None
    assert place({"WORLD_SIZE": "2"}) is None


def test_torchrun_tells_a_process_its_place() -> None:
    assert place(TORCHRUN) == Place(rank=5, world=8, local=4)


def test_a_task_of_a_slurm_step_has_a_place() -> None:
    assert place(SLURM) == Place(rank=6, world=8, local=4)
    assert place({**SLURM, "SLURM_TASKS_PER_NODE": "2,6"}) == Place(rank=6, world=8, local=2)


def test_a_batch_script_of_slurms_is_no_task() -> None:
    assert place({name: value for name, value in SLURM.items() if name != "SLURM_STEP_ID"}) is None
    assert place({**SLURM, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}) is None
