"""A minimal training for tests that check the formula of a method on random tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from equipoise.diagnosis.features.capture import encoders_of
from equipoise.methods import Counters, Method, StepContext
from equipoise.models import BalancedModel, MidFusionModel, MultimodalModel
from equipoise.models.build import build_fusion
from equipoise.models.encoders.cnn import CNN
from equipoise.randomness import derive_seed
from equipoise.relearning import DiagnoseRelearn
from equipoise.tasks import task_named
from equipoise.types import Batch

WIDTHS = {"audio": 4, "video": 6, "text": 5, "touch": 3}
CLASSES = 3
INPUT = 7


class Encoder(nn.Module):
    """Two layers with batch normalisation between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_features = width
        self.first, self.norm = nn.Linear(INPUT, 8), nn.BatchNorm1d(8)
        self.last = nn.Linear(8, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x)).relu())


def small_model(
    modalities: Sequence[str] = ("audio", "video"),
    fusion: str = "concat",
    *,
    width: int | None = None,
    seed: int = 0,
    **options: Any,
) -> MultimodalModel:
    """A model in float64; features are `width` wide, or `WIDTHS`."""
    widths = {m: width or WIDTHS[m] for m in modalities}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoders = {m: Encoder(w) for m, w in widths.items()}
        # The head has larger weights than by default, so that scores and gradients differ between modalities.
        model = MultimodalModel(encoders, build_fusion(fusion, widths, CLASSES, options, seed)).double()
        for parameter in model.fusion.parameters():
            parameter.data.mul_(3)
    return model


def random_batch(model: BalancedModel, n: int = 12, seed: int = 1) -> Batch:
    """A batch of noise that contains all classes."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {m: torch.randn(n, INPUT, generator=generator, dtype=torch.float64) for m in model.modalities}
    return Batch(inputs, torch.randint(0, CLASSES, (n,), generator=generator), torch.arange(n))


def part(batch: Batch, rows: Tensor) -> Batch:
    """The samples of a batch at these positions."""
    return Batch({m: x[rows] for m, x in batch.inputs.items()}, batch.target[rows], batch.index[rows])


def pieces(batch: Batch, size: int) -> list[Batch]:
    """Split a batch into batches of `size`; the last one may be smaller."""
    return [part(batch, rows) for rows in torch.arange(len(batch)).split(size)]


def drawn(method: Method, reference: BalancedModel, seed: int = 0) -> BalancedModel:
    """The model of a method, in float64; its additional modules are initialised with the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return method.build(reference).double()


def exchanging(modalities: Sequence[str]) -> tuple[MidFusionModel, Batch]:
    """A model of images whose encoders have batch statistics and exchange gates, and a batch for it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoders = {m: CNN(1, channels=[4, 6]) for m in modalities}
        model = MidFusionModel(encoders, build_fusion("concat", dict.fromkeys(modalities, 6), CLASSES, {}, 0))
    draw = torch.Generator().manual_seed(1)
    inputs = {m: torch.randn(12, 1, 8, 8, generator=draw, dtype=torch.float64) for m in modalities}
    return model.double(), Batch(inputs, torch.arange(12) % CLASSES, torch.arange(12))


class HandRun:
    """The protocol `equipoise.methods.Run` for a model, without a loop.

    Args:
        method: its `extra_modules` are built and `setup` is called.
        model: the trained model.
        train, val: batches; `take` reads the first.
        optimizer: by default SGD with momentum and weight decay, a group for each encoder as in the trainer.
    """

    def __init__(
        self,
        method: Method,
        model: BalancedModel,
        *,
        train: Sequence[Batch] = (),
        val: Sequence[Batch] = (),
        optimizer: Optimizer | None = None,
        epochs: int = 10,
        seed: int = 0,
    ) -> None:
        self.method, self.model = method, model
        self.epochs, self.optimizer_name, self.seed = epochs, "sgd", seed
        self.modules = nn.ModuleDict()
        members = method.members()
        for member in members:
            with torch.random.fork_rng():
                torch.manual_seed(derive_seed(seed, member.name))
                built = member.extra_modules(model, _Plan(epochs))
            for name, module in built.items():
                key = name if len(members) == 1 else f"{member.name}/{name}"
                self.modules[key] = module.double()
        self.optimizer = optimizer or self.make_optimizer()
        self.device = torch.device("cpu")
        self.generator = self.stream(method.name)
        self.counters = Counters()
        self.epoch, self.step, self.total_epochs = 0, 0, epochs
        self.learning_rates = [0.1] * epochs
        self.train, self.train_eval, self.val = list(train), list(train), list(val)
        self.train_target = torch.cat([torch.zeros(0, dtype=torch.int64), *(b.target for b in train)])
        self.train_size, self.steps_per_epoch = len(self.train_target), len(train)
        self.batch_size = max((len(batch) for batch in train), default=0)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.counted: list[nn.Module] = []
        method.setup(self)

    def make_optimizer(self) -> SGD:
        groups = {m: [p for _, p in self.model.encoder_parameters(m)] for m in self.model.modalities}
        groups["fusion"] = [p for _, p in self.model.fusion_parameters()]
        groups["extra"] = list(self.modules.parameters())
        named = [{"params": g, "name": name, "factor": 1.0} for name, g in groups.items() if g]
        return SGD(named, lr=0.1, momentum=0.9, weight_decay=1e-3)

    def fresh_optimizer(self, parameters: Any) -> SGD:
        return SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-3)

    def take(self, positions: Sequence[int]) -> Batch:
        whole = self.train
        inputs = {m: torch.cat([b.inputs[m] for b in whole])[positions] for m in whole[0].inputs}
        target, index = (
            torch.cat([getattr(b, key) for b in whole])[positions] for key in ("target", "index")
        )
        return Batch(inputs, target, index)

    def stream(self, method: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.seed, "method", method))

    def count_passes(self, module: nn.Module) -> None:
        self.counted.append(module)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return task_named(self.model.task).loss(logits, target)

    @property
    def whole(self) -> nn.Module:
        return self.model

    def relearner(self, *schedule: Any, **options: Any) -> DiagnoseRelearn:
        return DiagnoseRelearn(encoders_of(self.model), *schedule, optimizer=self.optimizer, **options)

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        return compute()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    @property
    def overflowed(self) -> bool:
        return False

    def clip_gradients(self) -> None:
        pass

    def own_time(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def record(self, kind: str, **values: Any) -> None:
        self.events.append((kind, values))

    # For tests -------------------------------------------------------------------------------------------

    def gradients(self, batch: Batch) -> tuple[dict[str, Tensor], StepContext]:
        """Run a standard step without the optimiser; return gradients by the model's parameter names."""
        context = StepContext(self, batch)  # type: ignore[arg-type]
        self.optimizer.zero_grad(set_to_none=True)
        self.method.forward(context)
        self.method.backward(self.method.losses(context), context)
        self.method.after_backward(context)
        named = self.model.named_parameters()
        return {name: p.grad.clone() for name, p in named if p.grad is not None}, context

    def restore(self, other: HandRun) -> None:
        """Load the content of a checkpoint of another run."""
        for name in ("model", "modules", "optimizer", "method"):
            getattr(self, name).load_state_dict(deepcopy(getattr(other, name).state_dict()))
        self.generator.set_state(other.generator.get_state())

    @contextlib.contextmanager
    def drawing_nothing(self) -> Iterator[None]:
        """Check that a block draws neither from the global stream nor from that of the run."""
        before, own = torch.get_rng_state(), self.generator.get_state()
        yield
        assert torch.equal(before, torch.get_rng_state())
        assert torch.equal(own, self.generator.get_state())

    def fit(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Take a step on each batch; return the model's weights and buffers."""
        for batch in batches:
            self.method.train_step(batch, self)  # type: ignore[arg-type]
            self.step += 1
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}


class _Plan:
    optimizer = "sgd"

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def learning_rates(self) -> list[float]:
        return [0.1] * self.epochs


def same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    """Whether two sets of tensors are equal bit for bit."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def assert_close_encoders(left: HandRun, right: HandRun) -> None:
    """Check that the encoders of two runs are equal up to rounding, in any order of modalities."""
    assert set(left.model.modalities) == set(right.model.modalities)
    for m in left.model.modalities:
        one, two = (run.model.encoder_module(m).state_dict() for run in (left, right))
        for name in one:
            torch.testing.assert_close(one[name], two[name], rtol=0, atol=1e-6)
