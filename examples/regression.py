"""Diagnosing & Re-learning for regression: progression of diabetes within a year.

    python examples/regression.py

Purity needs classes. For a continuous target the measure is the R2 of a ridge regression on the features,
cross-fitted; `metric=` would choose another one.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from equipoise import DiagnoseRelearn  # D&R

EPOCHS = 40


class BodyAndBlood(nn.Module):
    """Two modalities: age, sex, body mass and blood pressure; and six blood serum measurements."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 8))
        self.blood = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 8))
        self.head = nn.Linear(16, 1)

    def forward(self, body: Tensor, blood: Tensor) -> Tensor:
        return self.head(torch.cat([self.body(body), self.blood(blood)], dim=1)).squeeze(1)


def loaders() -> list[DataLoader]:
    data = load_diabetes()
    x, y = (torch.from_numpy(values).float() for values in (data.data, data.target))
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    train, val, test = order[:260], order[260:350], order[350:]
    x, y = x / x[train].std(dim=0), (y - y[train].mean()) / y[train].std()
    return [
        DataLoader(TensorDataset(x[rows, :4], x[rows, 4:], y[rows]), batch_size=32, shuffle=rows is train)
        for rows in (train, val, test)
    ]


def r2(model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    body, blood, target = loader.dataset.tensors
    with torch.no_grad():
        error = F.mse_loss(model(body, blood), target)
    return (1 - error / target.var(unbiased=False)).item()


def main() -> nn.Module:
    torch.manual_seed(0)
    train_loader, val_loader, test_loader = loaders()
    model = BodyAndBlood()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    encoders = {"body": model.body, "blood": model.blood}  # D&R
    relearn = DiagnoseRelearn(encoders, every=8, count=3, lam=3.0)  # D&R
    for epoch in range(EPOCHS):
        model.train()
        for body, blood, target in train_loader:
            optimizer.zero_grad()
            F.mse_loss(model(body, blood), target).backward()
            optimizer.step()
        if relearn.due(epoch):  # D&R
            print(relearn.step(epoch, model, train_loader, val_loader))  # D&R
    print(f"test R2 {r2(model, test_loader):.3f}")
    return model


if __name__ == "__main__":
    main()
