"""Optimisers and schedules, against hand calculations and PyTorch's own schedulers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

from asr.commands.compose import compose
from asr.models.ctc import CtcModel
from asr.models.lstm import LstmEncoder
from asr.training.optim import OptimiserSettings, build_optimiser, one_cycle, plateaus, rate

FILES = sorted((Path(__file__).resolve().parents[2] / "conf" / "optim").glob("*.yaml"))
HIGHEST = 0.4  # learning rate in the comparisons with PyTorch


def settings(**changes: object) -> OptimiserSettings:
    return dataclasses.replace(OptimiserSettings(learning_rate=HIGHEST), **changes)  # type: ignore[arg-type]


def parameter_and_optimiser(**changes: object) -> tuple[nn.Parameter, torch.optim.Optimizer]:
    module = nn.Linear(2, 1, bias=False, dtype=torch.double)
    nn.init.constant_(module.weight, 1.0)
    return module.weight, build_optimiser(module, settings(**changes))


# Optimisers


def test_gains_and_biases_do_not_decay() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    decaying, others = build_optimiser(module, settings(weight_decay=0.1)).param_groups
    assert [tuple(p.shape) for p in decaying["params"]] == [(4, 3)]
    assert decaying["weight_decay"] == 0.1
    assert {tuple(p.shape) for p in others["params"]} == {(4,)}
    assert others["weight_decay"] == 0.0


@pytest.mark.parametrize("name", ["adamw", "nadamw"])
def test_the_decay_of_adamw_and_nadamw_is_apart_from_the_gradient(name: str) -> None:
    weight, optimiser = parameter_and_optimiser(name=name, weight_decay=0.1)
    weight.grad = torch.zeros_like(weight)
    optimiser.step()
    torch.testing.assert_close(weight.data, torch.full_like(weight, 1 - HIGHEST * 0.1))


def test_adamw_without_decay_is_adam() -> None:
    weight, optimiser = parameter_and_optimiser(name="adamw", weight_decay=0.0)
    twin = weight.detach().clone().requires_grad_()
    adam = torch.optim.Adam([twin], lr=HIGHEST)
    for gradient in (1.0, -0.3, 2.0):
        weight.grad = torch.full_like(weight, gradient)
        twin.grad = torch.full_like(twin, gradient)
        optimiser.step()
        adam.step()
    assert torch.equal(weight, twin)


def test_the_first_step_of_nadamw_looks_ahead_by_its_momentum() -> None:
    weight, optimiser = parameter_and_optimiser(name="nadamw", weight_decay=0.0)
    weight.grad = torch.full_like(weight, 2.0)
    optimiser.step()
    # Dozat 2016: mu_t = 0.9 (1 - 0.96 ** (0.004 t) / 2), moments of the first step 0.2 and 0.004.
    mu, following = (0.9 * (1 - 0.5 * 0.96 ** (0.004 * t)) for t in (1, 2))
    ahead = (1 - mu) * 2.0 / (1 - mu) + following * 0.2 / (1 - mu * following)
    assert weight.data.mean().item() == pytest.approx(1 - HIGHEST * ahead / 2.0)


def test_sgd_has_the_momentum_of_nesterov_and_decays_with_the_gradient() -> None:
    weight, optimiser = parameter_and_optimiser(name="sgd", weight_decay=0.1)
    expected, velocity = 1.0, 0.0
    for gradient in (1.0, -0.5, 0.25):
        weight.grad = torch.full_like(weight, gradient)
        optimiser.step()
        slope = gradient + 0.1 * expected
        velocity = 0.9 * velocity + slope
        expected -= HIGHEST * (slope + 0.9 * velocity)
    assert weight.data.mean().item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["adamw", "nadamw", "sgd"])
def test_frozen_weights_stay_and_have_no_state(name: str) -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].requires_grad_(False)
    before = [parameter.clone() for parameter in module.parameters()]
    optimiser = build_optimiser(module, settings(name=name, weight_decay=0.5))
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    same = [torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True)]
    assert same == [True, True, False, False]
    assert len(optimiser.state_dict()["state"]) == 2


@pytest.mark.parametrize("name", ["adamw", "nadamw", "sgd"])
def test_a_restored_optimiser_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    def trained(steps: int, restore: bool) -> Tensor:
        module = nn.Linear(3, 2)
        nn.init.constant_(module.weight, 0.5)
        optimiser = build_optimiser(module, settings(name=name))
        gradients = torch.randn(steps, 2, 3, generator=torch.Generator().manual_seed(0))
        for step, gradient in enumerate(gradients):
            if restore and step == 2:
                torch.save(optimiser.state_dict(), tmp_path / "state")
                optimiser = build_optimiser(module, settings(name=name))
                optimiser.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
            module.weight.grad = gradient
            optimiser.step()
        return module.weight

    assert torch.equal(trained(5, restore=True), trained(5, restore=False))


@pytest.mark.parametrize("name", ["adamw", "nadamw", "sgd"])
def test_a_word_on_the_command_line_chooses_the_optimiser(name: str) -> None:
    chosen = compose(["recipe=custom", f"optim={name}", "optim.schedule=plateau"]).optim
    mine = OptimiserSettings(**dataclasses.asdict(chosen))
    assert (mine.name, mine.schedule) == (name, "plateau")
    kind = type(build_optimiser(nn.Linear(1, 1), mine))
    assert kind.__name__.lower() == name.replace("nadamw", "nadam")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_optimiser_learns_with_the_values_of_its_file(file: Path) -> None:
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert content["name"] == file.stem
    assert content.keys() == {field.name for field in dataclasses.fields(OptimiserSettings)}
    chosen = OptimiserSettings(**content)
    torch.manual_seed(0)
    model = CtcModel(LstmEncoder(8, channels=4, hidden=64, layers=1, dropout=0.0), 5)
    optimiser = build_optimiser(model, chosen)
    features, lengths = torch.randn(4, 40, 8), torch.full((4,), 40)
    targets, sizes = torch.tensor([[1, 2, 3], [3, 3, 1], [4, 2, 1], [2, 4, 4]]), torch.full((4,), 3)
    losses = []
    for step in range(60):
        for group in optimiser.param_groups:
            group["lr"] = rate(chosen, (step + 1) / 60, [])
        emissions, frames = model(features, lengths)
        loss = nn.functional.ctc_loss(emissions.transpose(0, 1), targets, frames, sizes)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), chosen.clip_norm)
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]


# Schedules


@pytest.mark.parametrize(
    ("progress", "share"),
    [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.55, 0.5), (1.0, 0.0), (1.5, 0.0)],
)
def test_one_cycle_rises_in_a_line_and_falls_in_half_a_cosine(
    progress: float, share: float
) -> None:
    assert one_cycle(progress, warmup=0.1) == pytest.approx(share, abs=1e-12)


def scheduled(
    scheduler: type[torch.optim.lr_scheduler.LRScheduler], steps: int, **arguments: object
) -> Iterator[float]:
    """The rate of each step under one of PyTorch's schedulers."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=HIGHEST)
    schedule = scheduler(optimiser, **arguments)
    for _ in range(steps):
        yield optimiser.param_groups[0]["lr"]
        optimiser.step()
        schedule.step()


def rates(steps: int, chosen: OptimiserSettings) -> list[float]:
    return [rate(chosen, (step + 1) / steps, []) for step in range(steps)]


def test_one_cycle_is_that_of_pytorch_in_each_step() -> None:
    rising, steps = 12, 60
    cycle: dict[str, object] = {
        "max_lr": HIGHEST,
        "total_steps": steps,
        "pct_start": rising / steps,
        "div_factor": rising,  # the first step is not at rate 0
        "final_div_factor": float("inf"),
        "cycle_momentum": False,
    }
    one = torch.optim.lr_scheduler.OneCycleLR
    line = list(scheduled(one, steps - 1, anneal_strategy="linear", **cycle))
    cosine = list(scheduled(one, steps - 1, anneal_strategy="cos", **cycle))
    mine = rates(steps, settings(schedule="one_cycle", warmup=rising / steps))
    assert mine[:-1] == pytest.approx(line[:rising] + cosine[rising:], abs=1e-12)
    assert mine[-1] == 0.0


def test_cosine_is_that_of_pytorch_after_a_line_up() -> None:
    rising, steps = 12, 60
    mine = rates(steps, settings(schedule="cosine", warmup=rising / steps, lowest=0.05))
    line = scheduled(
        torch.optim.lr_scheduler.LinearLR,
        rising,
        start_factor=1 / rising,
        total_iters=rising - 1,
    )
    assert mine[:rising] == pytest.approx(list(line))
    fall = scheduled(
        torch.optim.lr_scheduler.CosineAnnealingLR,
        steps - rising + 1,
        T_max=steps - rising,
        eta_min=0.05 * HIGHEST,
    )
    assert mine[rising - 1 :] == pytest.approx(list(fall))
    assert mine[-1] == pytest.approx(0.05 * HIGHEST)


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_plateau_is_that_of_pytorch_after_each_validation(patience: int) -> None:
    chosen = settings(
        schedule="plateau", warmup=0.0, lowest=0.02, plateau_factor=0.5, plateau_patience=patience
    )
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=HIGHEST)
    # PyTorch's patience counts the validations that change nothing, ours the one that does too.
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=0.5, patience=patience - 1, threshold=0.0, min_lr=0.02 * HIGHEST
    )
    falling = torch.linspace(0.9, 0.3, 60, dtype=torch.double)
    noise = torch.randn(60, dtype=torch.double, generator=torch.Generator().manual_seed(3))
    history: list[float] = []
    seen = set()
    for error_rate in (falling + 0.03 * noise).round(decimals=2).tolist():
        history.append(error_rate)
        theirs.step(error_rate)
        mine = rate(chosen, 0.5, history)
        assert mine == pytest.approx(optimiser.param_groups[0]["lr"])
        seen.add(mine)
    assert len(seen) > 3


@pytest.mark.parametrize(
    ("history", "falls"),
    [
        ([], 0),
        ([1.0, 1.0, 1.0, 1.0, 1.0], 0),  # nothing but blanks yet
        ([1.0, 1.0, 1.2, 0.9, 0.9], 0),
        ([1.0, 1.0, 1.2, 0.9, 0.9, 0.9], 1),
        ([0.5, 0.6, 0.4, 0.6, 0.4], 1),
        ([0.5, 0.6, 0.6, 0.6, 0.6], 2),
        ([0.5, 0.6, 0.6, 0.4, 0.6], 1),
    ],
)
def test_plateaus_are_counted_from_the_first_words_on(history: list[float], falls: int) -> None:
    assert plateaus(history, patience=2) == falls


def test_plateau_rises_first_and_stays_above_the_lowest() -> None:
    chosen = settings(schedule="plateau", warmup=0.2, lowest=0.3, plateau_patience=1)
    assert rate(chosen, 0.05, []) == pytest.approx(HIGHEST / 4)
    assert rate(chosen, 0.1, [0.5, 0.5]) == pytest.approx(HIGHEST / 4)
    assert rate(chosen, 1.0, [0.5, 0.5, 0.5]) == pytest.approx(0.3 * HIGHEST)


@pytest.mark.parametrize(
    ("warmup", "shares"), [(0.0, [1, 1, 1, 1]), (0.5, [0.5, 1, 1, 1]), (1.0, [0.25, 0.5, 0.75, 1])]
)
def test_constant_rises_during_the_warmup_and_stays(warmup: float, shares: list[float]) -> None:
    mine = rates(4, settings(schedule="constant", warmup=warmup))
    assert mine == pytest.approx([HIGHEST * share for share in shares])


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "plateau", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.3, 1.0])
def test_no_schedule_leaves_its_range(schedule: str, warmup: float) -> None:
    chosen = settings(schedule=schedule, warmup=warmup)
    values = [rate(chosen, step / 10, [0.5] * step) for step in range(14)]
    assert all(0 <= value <= HIGHEST for value in values)
    assert max(values) > 0


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="no schedule is called 'cosin'"):
        rate(settings(schedule="cosin"), 0.5, [])
