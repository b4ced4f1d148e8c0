"""Attention against its equations, one pair of frames at a time, and against PyTorch's layers."""

from __future__ import annotations

import math
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from asr import registry
from asr.models.attention import Positions, SelfAttention, TransformerLayer, TransformerStack
from asr.models.lstm import LstmEncoder
from asr.models.lstm_attention import LstmAttentionEncoder
from asr.models.lstm_transformer import LstmTransformerEncoder
from asr.models.transformer import TransformerEncoder

AnyModule = TypeVar("AnyModule", bound=nn.Module)
MEMBERS = ("lstm_attention", "lstm_transformer", "transformer")


def randomised(module: AnyModule) -> AnyModule:
    """With biases, gains and weights that are neither 0 nor 1, in double precision."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module.double()


def rotation(time: int, width: int) -> Tensor:
    """The matrix by which the paper turns the vector at a position (Su et al. 2021, eq. 15).

    Its pairs are of components i and i + width / 2.
    """
    matrix = torch.zeros(width, width, dtype=torch.double)
    for i in range(width // 2):
        angle = time / 10_000 ** (2 * i / width)
        j = i + width // 2
        matrix[i, i] = matrix[j, j] = math.cos(angle)
        matrix[i, j], matrix[j, i] = -math.sin(angle), math.sin(angle)
    return matrix


def unturned(frames: Tensor, lengths: Tensor, head_width: int) -> Positions:
    """Positions as if all frames stood at 0: attention without positions."""
    positions = Positions.of(frames, lengths, head_width)
    cosines = torch.ones_like(positions.cosines)
    return Positions(cosines, torch.zeros_like(positions.sines), positions.own)


def inside(frames: Tensor, lengths: Tensor) -> Tensor:
    """1 at an utterance's own frames, 0 in its padding: [B, T, 1]."""
    return (torch.arange(frames.shape[1]) < lengths[:, None])[:, :, None].to(frames.dtype)


@torch.no_grad()
@pytest.mark.parametrize(("width", "heads"), [(8, 1), (8, 2), (12, 3), (4, 2)])
def test_attention_equals_the_equations_for_each_pair_of_frames(width: int, heads: int) -> None:
    torch.manual_seed(0)
    attention = randomised(SelfAttention(width, heads))
    frames = torch.randn(3, 7, width, dtype=torch.double)
    lengths = torch.tensor([7, 4, 1])
    size = width // heads
    found = attention(frames, Positions.of(frames, lengths, size))

    weight, bias = attention.inputs.weight, attention.inputs.bias
    for row, length in enumerate(lengths.tolist()):
        own = frames[row, :length]
        for time in range(length):
            mixed = []
            for head in range(heads):
                start = head * size
                q, k, v = (slice(at + start, at + start + size) for at in (0, width, 2 * width))
                query = rotation(time, size) @ (weight[q] @ own[time] + bias[q])
                keys = [
                    rotation(other, size) @ (weight[k] @ own[other] + bias[k])
                    for other in range(length)
                ]
                shares = [math.exp(query @ key / math.sqrt(size)) for key in keys]
                values = [weight[v] @ frame + bias[v] for frame in own]
                mixed.append(
                    sum(share * value for share, value in zip(shares, values, strict=True))
                    / sum(shares)
                )
            expected = attention.output.weight @ torch.cat(mixed) + attention.output.bias
            torch.testing.assert_close(found[row, time], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float, 2e-5), (torch.double, 1e-11)])
def test_scores_depend_on_the_distance_alone_for_ten_minutes(
    dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    frames = torch.zeros(1, 15_000, 4, dtype=dtype)
    positions = Positions.of(frames, torch.tensor([15_000]), 32)
    query, key = torch.randn(2, 32, dtype=dtype)
    queries = positions.turn(query.expand(1, 1, 15_000, 32))[0, 0]
    keys = positions.turn(key.expand(1, 1, 15_000, 32))[0, 0]
    for distance in (0, 1, 17, 400):
        scores = (queries[distance:] * keys[: 15_000 - distance]).sum(-1)
        torch.testing.assert_close(scores, scores[:1].expand_as(scores), atol=tolerance, rtol=0)
    assert abs((queries[0] * keys[0]).sum() - (queries[17] * keys[0]).sum()) > 0.1
    torch.testing.assert_close(queries.norm(dim=-1), query.norm().expand(15_000))


def torch_twin(
    layer: TransformerLayer, width: int, heads: int, feedforward: int
) -> nn.TransformerEncoderLayer:
    twin = nn.TransformerEncoderLayer(
        width, heads, feedforward, 0.0, "gelu", batch_first=True, norm_first=True
    ).double()
    names = {
        "attention_norm": "norm1",
        "attention.inputs.weight": "self_attn.in_proj_weight",
        "attention.inputs.bias": "self_attn.in_proj_bias",
        "attention.output": "self_attn.out_proj",
        "feedforward_norm": "norm2",
        "widen": "linear1",
        "narrow": "linear2",
    }
    for name, value in layer.named_parameters():
        prefix = max((old for old in names if name.startswith(old)), key=len)
        twin.get_parameter(name.replace(prefix, names[prefix])).data.copy_(value)
    return twin


def test_a_layer_without_positions_equals_pytorchs_in_outputs_and_gradients() -> None:
    torch.manual_seed(0)
    layer = randomised(TransformerLayer(12, 3, 20, dropout=0.0))
    twin = torch_twin(layer, 12, 3, 20)
    frames = torch.randn(3, 9, 12, dtype=torch.double)
    lengths = torch.tensor([9, 5, 1])
    mask = inside(frames, lengths)
    ours = frames.clone().requires_grad_()
    theirs = frames.clone().requires_grad_()
    found = layer(ours, unturned(frames, lengths, 4)) * mask
    expected = twin(theirs, src_key_padding_mask=mask[:, :, 0] == 0) * mask
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    direction = torch.randn_like(found)
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-10, rtol=0)
    torch.testing.assert_close(
        layer.attention.inputs.weight.grad, twin.self_attn.in_proj_weight.grad, atol=1e-9, rtol=0
    )


def test_a_layer_on_a_single_frame_equals_pytorchs_with_positions_too() -> None:
    torch.manual_seed(0)
    layer = randomised(TransformerLayer(12, 3, 20, dropout=0.0))
    frames = torch.randn(2, 1, 12, dtype=torch.double)
    found = layer(frames, Positions.of(frames, torch.tensor([1, 1]), 4))
    torch.testing.assert_close(found, torch_twin(layer, 12, 3, 20)(frames), atol=1e-10, rtol=0)


def test_what_stands_in_the_padding_changes_nothing_and_gets_no_gradient() -> None:
    torch.manual_seed(0)
    stack = randomised(TransformerStack(8, 2, 2, 16, dropout=0.0))
    lengths = torch.tensor([6, 3, 1])
    frames = torch.randn(3, 6, 8, dtype=torch.double)
    mask = inside(frames, lengths)
    others = torch.where(mask > 0, frames, 1e3 * torch.randn_like(frames)).requires_grad_()
    wanted = stack(frames, lengths)[-1] * mask
    found = stack(others, lengths)[-1] * mask
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
    found.square().sum().backward()
    assert others.grad is not None
    assert not (others.grad * (1 - mask)).any()
    assert (others.grad * mask).abs().sum(-1)[mask[:, :, 0] > 0].all()


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    layer = randomised(TransformerLayer(8, 2, 6, dropout=0.0))
    lengths = torch.tensor([4, 2, 0])
    frames = torch.randn(3, 4, 8, dtype=torch.double, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def outputs(frames: Tensor, *values: Tensor) -> Tensor:
        weights = dict(zip(names, values, strict=True))
        positions = Positions.of(frames, lengths, 4)
        result: Tensor = torch.func.functional_call(layer, weights, (frames, positions))
        return result * inside(frames, lengths)

    torch.autograd.gradcheck(outputs, (frames, *layer.parameters()), fast_mode=True)


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("lengths", [[0, 1, 40], [0], [1], [0, 0, 0]])
def test_utterances_of_no_frame_or_one_make_no_nan(name: str, lengths: list[int]) -> None:
    torch.manual_seed(0)
    encoder = registry.find("models", name)(80, channels=4, hidden=16, layers=2, dropout=0.1)
    features = torch.randn(len(lengths), max(1, *lengths), 80, requires_grad=True)
    outputs, sizes = encoder.layer_outputs(features, torch.tensor(lengths))
    for frames in outputs:
        assert frames.isfinite().all()
    (outputs[-1] * inside(outputs[-1], sizes)).square().sum().backward()
    for weight in [features, *encoder.parameters()]:
        assert weight.grad is not None
        assert weight.grad.isfinite().all()


def test_scores_of_all_pairs_of_frames_are_never_kept() -> None:
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    layer = TransformerLayer(16, 2, 32, dropout=0.1)
    frames = torch.randn(2, 750, 16)  # 30 s
    positions = Positions.of(frames, torch.tensor([750, 400]), 8)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(frames, positions)
    assert 0 < max(kept) <= 2 * 750 * 3 * 16


@pytest.mark.parametrize("name", MEMBERS)
def test_bf16_stays_close_to_fp32(name: str) -> None:
    torch.manual_seed(0)
    encoder = registry.find("models", name)(80, channels=4, hidden=16, layers=2).eval()
    features, lengths = torch.randn(3, 100, 80), torch.tensor([100, 37, 1])
    exact, sizes = encoder(features, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = encoder(features, lengths)
    mask = inside(exact, sizes)
    error = ((found - exact) * mask).norm() / (exact * mask).norm()
    assert 0 < error < 0.03


def test_positions_and_the_sum_of_the_layers_are_in_single_precision_under_autocast() -> None:
    halves = torch.zeros(1, 3_000, 4, dtype=torch.bfloat16)
    positions = Positions.of(halves, torch.tensor([3_000]), 4)
    expected = Positions.of(halves.double(), torch.tensor([3_000]), 4)
    torch.testing.assert_close(positions.cosines.double(), expected.cosines, atol=1e-7, rtol=0)
    stack = TransformerStack(4, 2, 1, 8, dropout=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = stack(halves, torch.tensor([3_000]))
    assert {frames.dtype for frames in outputs} == {torch.float}


def test_an_utterance_without_frames_has_one_to_look_at() -> None:
    positions = Positions.of(torch.zeros(3, 4, 2), torch.tensor([0, 1, 3]), 2)
    assert positions.own[:, 0, 0].sum(-1).tolist() == [1, 1, 3]


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"heads": 0}, "heads is at least 1, not 0"),
        ({"heads": -2}, "heads is at least 1, not -2"),
        ({"hidden": 32, "heads": 5}, "heads=5 does not divide"),
        ({"hidden": 0, "heads": 0}, "hidden is at least 1"),
        ({"layers": 0}, "layers is at least 1"),
        ({"channels": 0}, "channels is at least 1"),
        ({"dropout": 1.0}, "dropout lies in"),
        ({"subsampling": 5}, "subsampling is one of"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_reason(
    name: str, wrong: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        registry.find("models", name)(80, **wrong)


def test_the_hybrid_refuses_an_empty_upper_part() -> None:
    with pytest.raises(ValueError, match="transformer_layers is at least 1"):
        LstmTransformerEncoder(80, transformer_layers=0)
    with pytest.raises(ValueError, match="feedforward is at least 1"):
        LstmTransformerEncoder(80, feedforward=0)
    with pytest.raises(ValueError, match="feedforward is at least 1"):
        TransformerEncoder(80, feedforward=0)


def test_heads_of_odd_width_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"heads=4 makes each 5 .* rotary positions turn pairs"):
        TransformerEncoder(80, hidden=20, heads=4)
    with pytest.raises(ValueError, match=r"heads=2 makes each 9 .* rotary positions turn pairs"):
        LstmAttentionEncoder(80, hidden=18, bidirectional=False, heads=2)
    assert LstmAttentionEncoder(80, hidden=18, heads=2).output_size == 36


@pytest.mark.parametrize("name", MEMBERS)
def test_dropout_acts_in_training_only_and_follows_the_seed(name: str) -> None:
    torch.manual_seed(0)
    encoder = registry.find("models", name)(80, channels=4, hidden=16, layers=2, dropout=0.5)
    features, lengths = torch.randn(2, 60, 80), torch.tensor([60, 40])

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        frames: Tensor = encoder(features, lengths)[0].detach()
        return frames

    assert torch.equal(run(1), run(1))
    assert not torch.allclose(run(1), run(2), atol=1e-2)
    encoder.eval()
    assert torch.equal(run(1), run(2))


def test_dropout_silences_both_branches_of_a_layer() -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(8, 2, 16, dropout=0.5)
    frames = torch.randn(1, 400, 8)
    positions = Positions.of(frames, torch.tensor([400]), 4)
    for kept, silent in (("output", "narrow"), ("narrow", "output")):
        for name, parameter in layer.named_parameters():
            if f"{silent}." in name:
                nn.init.zeros_(parameter)
            elif f"{kept}." in name:
                nn.init.normal_(parameter)
        unchanged = layer(frames, positions) == frames
        assert 0.4 < unchanged.float().mean() < 0.6


def test_dropout_silences_the_attention_above_the_lstm() -> None:
    torch.manual_seed(0)
    encoder = LstmAttentionEncoder(80, channels=4, hidden=16, layers=1, dropout=0.5)
    (below, above), _ = encoder.layer_outputs(torch.randn(1, 400, 80), torch.tensor([400]))
    assert 0.4 < (above == below).float().mean() < 0.6


def test_dropout_silences_what_enters_the_transformer() -> None:
    torch.manual_seed(0)
    encoder = TransformerEncoder(80, channels=4, hidden=16, layers=2, dropout=0.5)
    for name, parameter in encoder.transformer.layers.named_parameters():
        if "output." in name or "narrow." in name:
            nn.init.zeros_(parameter)
    (entered, _), _ = encoder.layer_outputs(torch.randn(1, 400, 80), torch.tensor([400]))
    assert 0.4 < (entered == 0).float().mean() < 0.6


@pytest.mark.parametrize("layers", [1, 24])
def test_a_deep_stack_starts_with_a_sum_no_larger_than_a_shallow_one(layers: int) -> None:
    torch.manual_seed(0)
    stack = TransformerStack(64, layers, 4, 128, dropout=0.0)
    frames = torch.randn(2, 50, 64)
    sums: list[Tensor] = []
    stack.layers[-1].register_forward_hook(lambda _, __, output: sums.append(output))
    stack(frames, torch.tensor([50, 50]))
    added = (sums[0] - frames).square().mean().sqrt()
    assert 0.3 < added < 1.5


def test_without_its_attention_the_member_is_the_lstm_below() -> None:
    torch.manual_seed(0)
    encoder = LstmAttentionEncoder(80, channels=4, hidden=16, layers=2).eval()
    below = LstmEncoder(80, channels=4, hidden=16, layers=2).eval()
    below.load_state_dict(encoder.state_dict(), strict=False)
    features, lengths = torch.randn(2, 60, 80), torch.tensor([60, 40])
    outputs, _ = encoder.layer_outputs(features, lengths)
    expected, _ = below.layer_outputs(features, lengths)
    torch.testing.assert_close(outputs[:-1], expected)
    assert not torch.allclose(outputs[-1], expected[-1], atol=1e-2)
    nn.init.zeros_(encoder.attention.output.weight)
    torch.testing.assert_close(encoder(features, lengths)[0], expected[-1])


def test_the_hybrid_is_the_lstm_with_the_stack_above() -> None:
    torch.manual_seed(0)
    encoder = LstmTransformerEncoder(80, channels=4, hidden=16, transformer_layers=3).eval()
    below = LstmEncoder(80, channels=4, hidden=16, layers=2).eval()
    below.load_state_dict(encoder.state_dict(), strict=False)
    features, lengths = torch.randn(2, 60, 80), torch.tensor([60, 40])
    outputs, sizes = encoder.layer_outputs(features, lengths)
    expected, _ = below.layer_outputs(features, lengths)
    assert len(outputs) == 5
    torch.testing.assert_close(outputs[:2], expected)
    torch.testing.assert_close(outputs[2:], encoder.transformer(expected[-1], sizes))


def test_the_last_output_of_a_stack_is_normalised() -> None:
    torch.manual_seed(0)
    stack = TransformerStack(16, 2, 2, 32, dropout=0.0)
    inner, last = stack(5 * torch.randn(2, 30, 16), torch.tensor([30, 30]))
    torch.testing.assert_close(last.mean(-1), torch.zeros(2, 30), atol=1e-5, rtol=0)
    torch.testing.assert_close(last.std(-1, correction=0), torch.ones(2, 30), atol=1e-3, rtol=0)
    assert inner.std() > 2
