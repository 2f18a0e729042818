"""Methods in loops of accelerate and Fabric, whose wrappers set the precision inside the model's pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import equipoise as eq

accelerate = pytest.importorskip("accelerate")
fabric = pytest.importorskip("lightning.fabric")
OPTIONS: dict[str, dict[str, Any]] = {"opm": {"start_epoch": 0}, "ogm-ge": {"end_epoch": -1}}
KINDS = {"64-true": torch.float64, "bf16-true": torch.bfloat16, "bf16-mixed": torch.bfloat16}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.audio, self.video, self.head = nn.Linear(6, 8), nn.Linear(5, 7), nn.Linear(15, 3)

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        return self.head(torch.cat([self.audio(audio), self.video(video)], dim=1))


def trained(wrapper: str, precision: str, name: str) -> dict[str, Tensor]:
    """Return the weights after two epochs under a wrapper, or in a plain loop."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net()
    dtype = KINDS[precision]
    draw = torch.Generator().manual_seed(0)
    data = TensorDataset(
        torch.randn(48, 6, generator=draw), torch.randn(48, 5, generator=draw), torch.arange(48) % 3
    )
    loader: Any = DataLoader(data, batch_size=12)
    if wrapper == "plain" and precision.endswith("true"):
        net = net.to(dtype)
        loader = [(a.to(dtype), v.to(dtype), y) for a, v, y in loader]
    model, encoders = net, {"audio": net.audio, "video": net.video}
    optimizer: Any = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    backward: Any = Tensor.backward
    if wrapper == "accelerate":
        accelerator = accelerate.Accelerator(mixed_precision="bf16", cpu=True)
        model, optimizer, loader = accelerator.prepare(net, optimizer, loader)
        backward = accelerator.backward
    elif wrapper == "fabric":
        run = fabric.Fabric(accelerator="cpu", precision=precision)
        model, optimizer = run.setup(net, optimizer)
        loader, backward = run.setup_dataloaders(loader), run.backward
    options = OPTIONS.get(name, {})
    given = {"train_loader": loader, "optimizer": optimizer, "epochs": 2, "head": net.head}
    ambient = torch.autocast("cpu", dtype=dtype, enabled=wrapper == "plain" and precision == "bf16-mixed")
    with ambient:
        method = eq.by_hand(name, model, encoders, **given, **options)
    for _ in method.epochs():
        for batch in loader:
            optimizer.zero_grad()
            with ambient:
                loss = method.loss(batch)
            backward(loss)
            method.on_gradients()
            optimizer.step()
    return net.state_dict()


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Neither inherit nor leave the precision, which accelerate keeps for the whole process."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("name", ["joint", "multi-loss", "ogm-ge", "opm"])
@pytest.mark.parametrize(
    ("wrapper", "precision"), [("accelerate", "bf16-mixed"), *(("fabric", kind) for kind in KINDS)]
)
def test_the_precision_of_a_wrapper_is_that_of_the_method(wrapper: str, precision: str, name: str) -> None:
    expected = trained("plain", precision, name)
    near = 1e-6 if precision == "64-true" else 0.02  # Fabric returns the logits in float32
    for key, value in trained(wrapper, precision, name).items():
        torch.testing.assert_close(value, expected[key], rtol=near, atol=near)
