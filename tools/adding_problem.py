"""The adding problem, a recurrent network that answers it, and its training.

Each step has two inputs, a value drawn evenly from [0, 1] and a marker. One step in the first half
of the sequence is marked, and one in the second; the target, asked for after the last step, is
the sum of the two marked values (Hochreiter and Schmidhuber 1997, experiment 4, in the form of
Arjovsky et al. 2016). Who always answers 1 has a mean squared error of 1/6.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from hardware import hardware
from torch import Tensor, nn

from asr.models.gru import GruEncoder
from asr.models.lstm import LstmEncoder
from asr.models.recurrent import start_cell
from asr.models.rnn import RnnEncoder

CELLS = {
    "rnn": RnnEncoder.cell,
    "gru": GruEncoder.cell,
    "lstm": LstmEncoder.cell,
    "lstm_chrono": LstmEncoder.cell,
}
BASELINE_MSE = 1 / 6  # the variance of the sum of two values drawn evenly from [0, 1]
LEARNT_MSE = 0.01
WINDOW_UPDATES = 50  # whose mean loss is a point of the curve
CLIP_NORM = 1.0
TEST_SEED = 0  # of the sequences that no training draws
TEST_BATCH = 250


@dataclass(frozen=True)
class Setting:
    """One training. `truncate` is K, 0 for full back-propagation through time."""

    model: str
    length: int
    truncate: int
    seed: int
    updates: int
    hidden: int
    batch: int
    learning_rate: float
    test_sequences: int

    @property
    def propagation(self) -> str:
        return f"cut {self.truncate}" if self.truncate else "full"


@dataclass(frozen=True)
class Training:
    """What came of it.

    `curve` is the mean squared error over each stretch of WINDOW_UPDATES, `learnt_at` the updates
    after which it fell below LEARNT_MSE, `processor_s` the processor's time.
    """

    setting: Setting
    test_mse: float
    updates: int
    learnt_at: int | None
    curve: list[float]
    processor_s: float
    hardware: str


def random_sequences(batch: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences [B, T, 2] of values and markers, and the sums of the marked values [B]."""
    values = torch.rand(batch, length, generator=generator)  # [B, T]
    half = length // 2
    first = torch.randint(0, half, (batch, 1), generator=generator)
    second = torch.randint(half, length, (batch, 1), generator=generator)
    marked = torch.cat([first, second], dim=1)  # [B, 2]
    markers = torch.zeros_like(values).scatter_(1, marked, 1.0)
    return torch.stack([values, markers], dim=2), values.gather(1, marked).sum(1)


def start_chrono(cell: nn.Module, longest: int) -> None:
    """Forget gates whose memories last from 2 to `longest` steps, evenly; weights stay.

    (Tallec and Ollivier 2018: a forget gate's bias is log u with u drawn evenly from 1 to
    `longest` - 1, and an input gate's the same, negative. A gate that keeps f = u / (1 + u) of its
    cell in a step has a memory of 1 / (1 - f) = 1 + u steps.)
    """
    bias = cell.get_parameter("bias_ih_l0").data
    inputs, forgets, _, _ = bias.chunk(4)  # i, f, g, o
    forgets.copy_(torch.empty_like(forgets).uniform_(1.0, longest - 1.0).log())
    inputs.copy_(-forgets)


class Adder(nn.Module):
    """One layer of a member of the family, as it starts there, and a number at the end."""

    def __init__(self, model: str, hidden: int, longest: int) -> None:
        super().__init__()
        self.cell = CELLS[model](2, hidden)
        start_cell(self.cell, hidden)
        if model == "lstm_chrono":
            start_chrono(self.cell, longest)
        self.head = nn.Linear(hidden, 1)

    def forward(self, frames: Tensor, truncate: int) -> Tensor:
        """[B, T, 2] -> [B]. Gradients come from the last `truncate` steps; 0: from all."""
        steps = truncate or frames.shape[1]
        before, last = frames[:, :-steps], frames[:, -steps:]  # [B, T - K, 2], [B, K, 2]
        state = None
        if before.shape[1]:
            with torch.no_grad():  # the state alone is carried on
                state = self.cell(before)[1]
        outputs = self.cell(last, state)[0]  # [B, K, H]
        return self.head(outputs[:, -1])[:, 0]


def error_on_test(network: Adder, setting: Setting) -> float:
    """The mean squared error on sequences that are the same for all models and seeds."""
    generator = torch.Generator().manual_seed(TEST_SEED)
    frames, sums = random_sequences(setting.test_sequences, setting.length, generator)
    with torch.no_grad():
        answers = torch.cat([network(part, 0) for part in frames.split(TEST_BATCH)])
    return float((answers - sums).square().mean())


def train(setting: Setting) -> Training:
    """Train one network until it has learnt, or for all updates."""
    torch.manual_seed(setting.seed)
    network = Adder(setting.model, setting.hidden, setting.length)
    generator = torch.Generator().manual_seed(setting.seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=setting.learning_rate)
    began = time.process_time()
    losses: list[float] = []
    curve: list[float] = []
    learnt_at = None
    while len(losses) < setting.updates and learnt_at is None:
        frames, sums = random_sequences(setting.batch, setting.length, generator)
        loss = (network(frames, setting.truncate) - sums).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        optimiser.step()
        losses.append(loss.item())
        if len(losses) % WINDOW_UPDATES == 0:
            curve.append(statistics.fmean(losses[-WINDOW_UPDATES:]))
            if curve[-1] < LEARNT_MSE:
                learnt_at = len(losses)
    return Training(
        setting=setting,
        test_mse=error_on_test(network, setting),
        updates=len(losses),
        learnt_at=learnt_at,
        curve=curve,
        processor_s=time.process_time() - began,
        hardware=hardware(torch.device("cpu")),
    )
