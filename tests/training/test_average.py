"""The moving average, and the average of the best epochs, through kills and resumes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from asr.errors import UserError
from asr.training.average import BestEpochs, update_average

# Fifteen epochs' error rates with equal ones among them, small ones early and late.
RATES = [1.0, 1.0, 0.5, 0.7, 0.4, 0.4, 0.6, 0.3, 0.4, 0.35, 0.3, 0.8, 0.3, 0.2, 0.31]


def weights_of(epoch: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(epoch)
    return {
        "layer.weight": torch.randn(3, 4, generator=generator),
        "layer.bias": torch.randn(4, generator=generator),
    }


def best_of(epochs: int, count: int) -> list[int]:
    """Which of the first epochs are the best, by another way: the latest of the equals first."""
    numbers = range(epochs, 0, -1)
    return sorted(sorted(numbers, key=lambda epoch: RATES[epoch - 1])[:count])


def mean_of(epochs: list[int]) -> dict[str, Tensor]:
    every = [weights_of(epoch) for epoch in epochs]
    return {
        name: torch.stack([weights[name].double() for weights in every]).mean(0).float()
        for name in every[0]
    }


def kept(folder: Path, count: int) -> BestEpochs:
    """Of a folder in which every file can be read."""

    def warn(message: str) -> None:
        raise AssertionError(message)

    return BestEpochs(folder, count, warn)


def train(best: BestEpochs, first: int, last: int, resumable: int = 0) -> None:
    for epoch in range(first, last + 1):
        best.keep(epoch, RATES[epoch - 1], weights_of(epoch), resumable)


def assert_average(best: BestEpochs, epochs: list[int]) -> None:
    assert best.epochs() == epochs
    average, expected = best.average(), mean_of(epochs)
    assert average.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(average[name], tensor, atol=1e-7, rtol=0)


# The moving average


def test_the_average_starts_at_the_weights_and_then_moves_slowly() -> None:
    average, current = [torch.tensor([0.0])], [torch.tensor([1.0])]
    update_average(average, current, decay=0.998, step=1)
    assert float(average[0]) == pytest.approx(1 - 1 / 11)
    update_average(average, [torch.tensor([2.0])], decay=0.998, step=1_000_000)
    assert float(average[0]) == pytest.approx((1 - 1 / 11) * 0.998 + 2 * 0.002)


def test_no_averaging_follows_the_weights() -> None:
    average = [torch.tensor([5.0])]
    update_average(average, [torch.tensor([1.0])], decay=0.0, step=3)
    assert float(average[0]) == 1.0


# The average of the best epochs


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_after_each_epoch_it_is_that_of_the_best_so_far(count: int, tmp_path: Path) -> None:
    best = kept(tmp_path / "checkpoints" / "best", count)
    assert best.epochs() == []
    for epoch in range(1, len(RATES) + 1):
        train(best, epoch, epoch, resumable=epoch - 1)
        assert_average(best, best_of(epoch, count))
        assert len(list(best.folder.iterdir())) <= count + 1


def test_of_equals_the_later_epoch_stays(tmp_path: Path) -> None:
    best = kept(tmp_path, 2)
    for epoch in (1, 2, 3):
        best.keep(epoch, 0.5, weights_of(epoch), resumable=epoch - 1)
    assert_average(best, [2, 3])


def test_it_is_added_up_in_double_precision(tmp_path: Path) -> None:
    best = kept(tmp_path, 3)
    for epoch, value in enumerate((1e8, 1.0, -1e8), start=1):  # in single precision 1 is lost
        best.keep(epoch, 0.5, {"weight": torch.tensor([value])}, resumable=0)
    average = best.average()["weight"]
    assert average.dtype == torch.float32
    assert float(average) == pytest.approx(1 / 3)


def test_weights_that_are_views_are_kept_as_they_are(tmp_path: Path) -> None:
    best = kept(tmp_path, 1)
    turned = torch.arange(6.0).view(2, 3).t()
    best.keep(1, 0.5, {"weight": turned}, resumable=0)
    assert torch.equal(best.average()["weight"], turned)


def test_without_an_epoch_there_is_no_average(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no epoch's weights"):
        kept(tmp_path / "best", 2).average()


@pytest.mark.parametrize("reached", [8, 11, 15])
def test_a_run_taken_up_anywhere_ends_with_the_same_average(reached: int, tmp_path: Path) -> None:
    """The last two epochs can be taken up; what is trained again comes out otherwise."""
    for taken_up in (reached - 2, reached - 1, reached):
        best = kept(tmp_path / str(taken_up), 3)
        for epoch in range(1, reached + 1):
            other = weights_of(100 + epoch) if epoch > taken_up else weights_of(epoch)
            error_rate = 0.01 if epoch > taken_up else RATES[epoch - 1]
            best.keep(epoch, error_rate, other, resumable=epoch - 2)
        best.forget_after(taken_up)
        assert_average(best, best_of(taken_up, 3))
        train(best, taken_up + 1, len(RATES), resumable=taken_up)
        assert_average(best, best_of(len(RATES), 3))


# Forks at each of the process's own file operations, and kills the child before it.
KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from asr.training.average import BestEpochs

root, epoch, rate = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
weights = torch.load(root / "weights", weights_only=True)
for number in range(1, 100):
    child = os.fork()
    if child == 0:
        left = [number]
        def hook(event, arguments):
            if event in ("open", "os.rename", "os.remove", "os.mkdir"):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        BestEpochs(root / str(number), 2, print).keep(epoch, rate, weights, epoch - 1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
print(number)
"""


def test_a_kill_between_any_two_files_changes_no_average(tmp_path: Path) -> None:
    epoch = 8  # takes the place of epoch 5, while 6 stays
    train(kept(tmp_path / "before", 2), 1, epoch - 1, resumable=epoch - 2)
    for number in range(1, 30):
        shutil.copytree(tmp_path / "before", tmp_path / str(number))
    torch.save(weights_of(epoch), tmp_path / "weights")
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(epoch), str(RATES[epoch - 1])]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    ended = int(ran.stdout)
    assert 5 < ended < 30, ran.stderr
    names = [{path.name for path in (tmp_path / str(n)).iterdir()} for n in range(1, ended + 1)]
    assert any(name.endswith(".partial") for folder in names for name in folder)
    assert any(len(folder) == 3 for folder in names)  # written, and the other not yet removed
    for number in range(1, ended + 1):
        best = kept(tmp_path / str(number), 2)
        assert best.epochs() in (best_of(epoch - 1, 2), best_of(epoch, 2))
        best.forget_after(epoch - 1)
        assert_average(best, best_of(epoch - 1, 2))
        assert not list(best.folder.glob(".*"))
        train(best, epoch, epoch, resumable=epoch - 1)
        assert_average(best, best_of(epoch, 2))


def test_a_torn_file_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    train(kept(tmp_path, 2), 1, 3)
    torn = tmp_path / "epoch-00003.safetensors"
    torn.write_bytes(torn.read_bytes()[:-4])
    (tmp_path / "epoch-00009.safetensors").touch()
    told: list[str] = []
    best = BestEpochs(tmp_path, 2, told.append)
    assert best.epochs() == [1, 2]
    assert len(told) == 2
    assert any(str(torn) in message and "passed over" in message for message in told)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "best").touch()
    with pytest.raises(UserError, match=r"Cannot write .*best"):
        kept(tmp_path / "best", 2).keep(1, 0.5, weights_of(1), resumable=0)
