"""Averages of the weights: a moving one while they are trained, and that of the best epochs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from asr.files import explain_write_errors, write_atomically

_NAME = re.compile(r"epoch-(\d+)\.safetensors")
_ERROR_RATE = "error_rate"


@torch.no_grad()
def update_average(
    average: Iterable[Tensor], current: Iterable[Tensor], decay: float, step: int
) -> None:
    """Move an exponential moving average towards the current weights, faster in the first steps.

    `step` counts from 1. The decay is min(decay, step / (10 + step)): the start is forgotten.
    """
    bounded = min(decay, step / (10 + step))
    torch._foreach_lerp_(list(average), list(current), 1 - bounded)


@dataclass(frozen=True)
class _Epoch:
    """An epoch whose weights lie in `path`."""

    number: int
    error_rate: float
    path: Path


class BestEpochs:
    """The weights of the epochs with the lowest error rates on validation, and their average.

    (Vaswani et al. 2017 average the last epochs; Watanabe et al. 2018 the best.) Each lies in a
    file of its own: a run that is taken up finds them, and an average of many takes the memory of
    two. Of equal error rates the later epoch is better.

    Args:
        folder: of the files; made when the first is written.
        count: epochs that are averaged.
        warn: told of a file that cannot be read, which is passed over.
    """

    def __init__(self, folder: Path, count: int, warn: Callable[[str], None]) -> None:
        self.folder = folder
        self.count = count
        self.warn = warn

    def keep(
        self, epoch: int, error_rate: float, weights: Mapping[str, Tensor], resumable: int
    ) -> None:
        """Write an epoch's weights if it is among the best, and remove what no longer is.

        Args:
            epoch: counted from 1, later than all that are there.
            error_rate: on validation.
            weights: by name.
            resumable: the earliest epoch after which the run may yet be taken up again. What was
                among the best then stays, as a run that is taken up there needs it.

        Raises:
            UserError: a file cannot be written or removed; names it.
        """
        known = self._written()
        new = _Epoch(epoch, error_rate, self.folder / f"epoch-{epoch:05d}.safetensors")
        if new in self._best([*known, new]):
            with explain_write_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
            with write_atomically(new.path, "wb") as stream:
                stream.write(save(tensors, {_ERROR_RATE: repr(error_rate)}))
        early = [other for other in known if other.number <= resumable]
        self._remove(other.path for other in set(early) - set(self._best(early)))

    def forget_after(self, epoch: int) -> None:
        """Remove the weights of later epochs, which will be trained again, and torn files.

        Raises:
            UserError: a file cannot be removed; names it.
        """
        self._remove(other.path for other in self._written() if other.number > epoch)
        self._remove(self.folder.glob(".*.partial"))

    def epochs(self) -> list[int]:
        """Those that `average` is made of, the earliest first; none before the first validation."""
        return [epoch.number for epoch in self._averaged()]

    def average(self) -> dict[str, Tensor]:
        """The mean of the best epochs' weights, by name, on the CPU.

        It is added up in double precision, the earliest epoch first.

        Raises:
            ValueError: there are none yet.
        """
        epochs = self._averaged()
        if not epochs:
            raise ValueError(f"no epoch's weights are in {self.folder}")
        weights = load_file(epochs[0].path)
        total = {name: tensor.double() for name, tensor in weights.items()}
        for epoch in epochs[1:]:
            for name, tensor in load_file(epoch.path).items():
                total[name] += tensor
        return {name: (total[name] / len(epochs)).to(weights[name].dtype) for name in weights}

    def _averaged(self) -> list[_Epoch]:
        return sorted(self._best(self._written()), key=lambda epoch: epoch.number)

    def _best(self, epochs: Iterable[_Epoch]) -> list[_Epoch]:
        return sorted(epochs, key=lambda epoch: (epoch.error_rate, -epoch.number))[: self.count]

    def _written(self) -> list[_Epoch]:
        """What is there, in no order."""
        found = []
        for path in self.folder.glob("*.safetensors"):
            if match := _NAME.fullmatch(path.name):
                try:
                    with safe_open(path, framework="pt") as file:
                        error_rate = float(file.metadata()[_ERROR_RATE])
                except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
                    self.warn(f"{path} cannot be read ({type(error).__name__}): passed over.")
                else:
                    found.append(_Epoch(int(match[1]), error_rate, path))
        return found

    def _remove(self, paths: Iterable[Path]) -> None:
        for path in paths:
            with explain_write_errors(path):
                path.unlink()
