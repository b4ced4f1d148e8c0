"""Sizes that a machine has no memory for are wrong use; any other fault is a fault."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from asr.commands.compose import compose
from asr.commands.network import build_encoder, check_sizes
from asr.config import Config
from asr.errors import UserError


def config(hidden: int) -> Config:
    composed = compose(["recipe=an4"])
    return replace(composed, model={"name": "lstm", "hidden": hidden, "layers": 2})


@pytest.mark.parametrize("hidden", [10**12, 10**17])  # beyond any address space; beyond 64 bits
def test_sizes_that_cannot_be_allocated_are_named_in_one_line(hidden: int) -> None:
    with pytest.raises(UserError) as caught:
        build_encoder(config(hidden))
    message = f"model: there is no memory here for hidden={hidden}, layers=2: make it smaller"
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_sizes_that_cannot_be_counted_are_found_without_making_the_network() -> None:
    with pytest.raises(UserError, match=r"no memory here for hidden=1000"):
        check_sizes(config(10**17))


class Failing(nn.Module):
    """A model of somebody's package."""

    error: Exception

    def __init__(self, **sizes: int) -> None:
        raise self.error


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_memory_that_python_or_a_gpu_does_not_have_is_no_other_case(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Failing, "error", error, raising=False)
    monkeypatch.setattr("asr.registry.find", lambda kind, name: Failing)
    with pytest.raises(UserError, match="no memory here for hidden=64, layers=2"):
        build_encoder(config(64))


def test_another_fault_of_torch_is_not_taken_for_a_lack_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Failing, "error", RuntimeError("shapes differ"), raising=False)
    monkeypatch.setattr("asr.registry.find", lambda kind, name: Failing)
    with pytest.raises(RuntimeError, match="shapes differ"):
        build_encoder(config(64))
