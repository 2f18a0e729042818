"""The second half of a re-learning: encoders are blended, and what stands around their weights follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from equipoise.diagnosis.features.capture import untouched_generators
from equipoise.diagnosis.features.reading import BatchReader, device_of, moved_batches
from equipoise.distributed import refuse_flattened, reshard, share_values, unwrapped
from equipoise.relearning.adapters import refuse_merged
from equipoise.relearning.copies import copied_encoder
from equipoise.relearning.optimizer_state import (
    LearningRateRewarm,
    Optimizers,
    as_optimizers,
    settle_optimizer_state,
)
from equipoise.relearning.options import RelearnOptions
from equipoise.relearning.pulls import initial_targets, redrawn
from equipoise.relearning.recovery import recalibrate_norms, refit_head
from equipoise.relearning.reinitialize import snapshot, soft_reinitialize
from equipoise.relearning.selection import select_buffers, select_parameters
from equipoise.relearning.targets import update_average


class Blending:
    """The encoders of a re-learning and what they are pulled toward.

    Wrappers for distributed training and compilation are looked through, so that names are the encoder's own.

    Args:
        encoders: modality name to encoder, as they are before training.
        choices: what is blended toward what, and what happens around it.
        reader: how batches are read.
        optimizer: one or several, see `RelearnOptions.require`.
        head: see there.
        copies: averaged copies of the model, see `RelearnOptions.ema_policy`.

    Attributes:
        targets: modality name to the state that its encoder is pulled toward.
        head_target: the head's initial state.
        rewarm: what raises the learning rate of each optimiser again, where it is asked for.
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        choices: RelearnOptions,
        reader: BatchReader,
        optimizer: Optimizers | None,
        head: nn.Module | None,
        copies: Sequence[nn.Module] = (),
    ) -> None:
        choices.require(optimizer=optimizer, head=head)
        for name, encoder in encoders.items():
            refuse_flattened(encoder, f"the encoder of {name!r}")
        self.encoders = {name: unwrapped(encoder) for name, encoder in encoders.items()}
        self.choices, self.reader, self.head, self.copies = choices, reader, head, list(copies)
        self.optimizers = as_optimizers(optimizer)
        self.selections = choices.selections(self.encoders)
        choices.check_layers(n for encoder in self.encoders.values() for n, _ in encoder.named_parameters())
        selected = {name: self.selected(name) for name in self.encoders}
        self.targets = initial_targets(self.encoders, choices, selected)
        self.head_target = snapshot(head) if head is not None else {}
        self.rewarm: list[LearningRateRewarm] = []
        if choices.rewarm_steps:
            self.rewarm = [LearningRateRewarm(one, choices.rewarm_steps) for one in self.optimizers]

    def selected(self, modality: str) -> list[str]:
        """Return the names of the parameters of an encoder that take part; none where all are frozen now."""
        refuse_merged(self.encoders[modality], f"the encoder of {modality!r}")
        return select_parameters(self.encoders[modality], self.selections[modality])

    def distinct(self) -> dict[nn.Module, list[str]]:
        """Return encoder to the modalities it serves."""
        distinct: dict[nn.Module, list[str]] = {}
        for name, encoder in self.encoders.items():
            distinct.setdefault(encoder, []).append(name)
        return distinct

    def layers(self, strengths: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """Return modality to parameter to strength; empty where layers do not differ."""
        if not self.choices.by_layer:
            return {}
        found = {}
        for name, strength in strengths.items():
            selected = self.selected(name)
            found[name] = self.choices.layer_strengths(strength, selected, self.encoders[name], selected)
        return found

    def track(self) -> None:
        """Update the moving averages of `target="ema"`."""
        for name, encoder in self.encoders.items():
            if self.choices.target == "ema":
                update_average(self.targets[name], encoder, self.choices.ema_decay)

    def carry_out(
        self, strengths: Mapping[str, float], turn: int, model: nn.Module, train_loader: Iterable[Any]
    ) -> None:
        """Blend the encoders, and let statistics, optimiser, head and learning rate follow.

        Args:
            strengths: strength of each modality; those that share an encoder have the same.
            turn: number of re-learnings before this one.
            model: the whole model.
            train_loader: training batches.
        """
        reshard(model)
        blended = self._blend(strengths, turn, model)
        with untouched_generators(train_loader):
            if self.choices.norm_stats == "recalibrate":
                self._recalibrate(strengths, model, train_loader)
            self._recover(sum(strengths.values()) / len(strengths), blended, model, train_loader)

    def _blend(
        self, strengths: Mapping[str, float], turn: int, model: nn.Module
    ) -> dict[nn.Parameter, float]:
        choices = self.choices
        buffers = choices.norm_stats if choices.norm_stats in ("blend", "reset") else "keep"
        blended: dict[nn.Parameter, float] = {}
        for encoder, names in self.distinct().items():
            strength, selection = strengths[names[0]], self.selections[names[0]]
            if strength == 0:
                continue
            selected = self.selected(names[0])
            target = self.targets[names[0]]
            if choices.target == "redraw":
                target = redrawn(names[0], encoder, choices, selected, turn)
            # A parameter that two different encoders share is blended with the first of them only.
            parameters, taking_part = dict(encoder.named_parameters()), set(selected)
            chosen = [
                name
                for name, parameter in parameters.items()
                if name in taking_part and parameter not in blended
            ]
            layers = choices.layer_strengths(
                strength, [*chosen, *select_buffers(encoder, selection)], encoder, selected
            )
            soft_reinitialize(encoder, target, layers, parameters=chosen, buffers=buffers)
            # Also where processes started from different weights, or drew different ones.
            share_values([*parameters.values(), *encoder.buffers()])
            for copy in self._copies(encoder, model):
                if choices.ema_policy == "copy":
                    soft_reinitialize(copy, encoder.state_dict(), 1.0, parameters=chosen, buffers="reset")
                else:
                    soft_reinitialize(copy, target, layers, parameters=chosen, buffers=buffers)
                share_values([*copy.parameters(), *copy.buffers()])
            blended |= {parameters[name]: layers[name] for name in chosen}
        return blended

    def _copies(self, encoder: nn.Module, model: nn.Module) -> list[nn.Module]:
        """Return the copies of an encoder that follow it."""
        if self.choices.ema_policy == "keep":
            return []
        return [copied_encoder(encoder, model, copy) for copy in self.copies]

    def _recalibrate(
        self, strengths: Mapping[str, float], model: nn.Module, train_loader: Iterable[Any]
    ) -> None:
        recalibrate_norms(
            [encoder for name, encoder in self.encoders.items() if strengths[name] > 0],
            model,
            lambda batch: self.reader.run(model, batch),
            # A batch of one has no spread to learn from, and some layers refuse it.
            (b for b in moved_batches(train_loader, device_of(model)) if len(self.reader.target(b)) > 1),
        )
        reshard(model)

    def _recover(
        self,
        mean_strength: float,
        blended: dict[nn.Parameter, float],
        model: nn.Module,
        train_loader: Iterable[Any],
    ) -> None:
        choices = self.choices
        if choices.head_policy == "blend" and self.head is not None:
            soft_reinitialize(self.head, self.head_target, mean_strength)
            share_values(self.head.parameters())
            blended |= dict.fromkeys(self.head.parameters(), mean_strength)
        settle_optimizer_state(self.optimizers, blended, choices.optimizer_state)
        if choices.head_policy == "refit" and self.head is not None:
            refit_head(
                self.head,
                model,
                lambda batch: self.reader.logits(model, batch),
                self.reader.target,
                moved_batches(train_loader, device_of(model), repeat=True),
                steps=choices.head_refit_steps,
                lr=self._rate_of(self.head),
            )
        for rewarm in self.rewarm:
            rewarm.start()

    def _rate_of(self, module: nn.Module) -> float:
        """Return the learning rate of a module's parameters, or the first one there is."""
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        own = {id(parameter) for parameter in module.parameters()}
        its = [group for group in groups if any(id(parameter) in own for parameter in group["params"])]
        return float((its or groups)[0]["lr"])
