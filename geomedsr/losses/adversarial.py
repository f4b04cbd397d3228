"""The adversarial loss: a critic learns to tell the network's images from real ones, and the network to be taken in.

Reference: Goodfellow et al. 2014, arXiv:1406.2661 (vanilla, with the generator's log D); Mao et al. 2017,
    arXiv:1611.04076 (least squares); Lim and Ye 2017, arXiv:1705.02894 (hinge); Jolicoeur-Martineau 2018,
    arXiv:1807.00734 (relativistic average); Mescheder et al. 2018, arXiv:1801.04406 (R1); Karras et al. 2020,
    arXiv:1912.04958 (R1 every few steps)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from geomedsr import registry
from geomedsr.critics._critic import Critic, spectral
from geomedsr.errors import RecipeError
from geomedsr.losses._loss import Loss

__all__ = ["KINDS", "Adversarial", "build", "critic_loss", "generator_loss"]

KINDS = ("vanilla", "least_squares", "hinge", "relativistic")


def critic_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """What a critic makes small, from its logits: one term for real images, one for the network's.

    Example:
        >>> critic_loss("hinge", torch.tensor([0.5]), torch.tensor([-2.0])).item()
        0.5
    """
    if kind == "least_squares":
        return (real - 1).square().mean() + fake.square().mean()
    if kind == "hinge":
        return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()
    if kind == "relativistic":
        real, fake = real - fake.mean(), fake - real.mean()
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def generator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """What a network makes small, from the critic's logits; only the relativistic kind looks at `real`."""
    if kind == "least_squares":
        return (fake - 1).square().mean()
    if kind == "hinge":
        return -fake.mean()
    if kind == "relativistic":
        return critic_loss(kind, fake, real)
    return functional.softplus(-fake).mean()


class Adversarial(Loss):
    """How well the critic sees through the network's images. The critic is made from the first images that come.

    `critic` is a name in `geomedsr/critics`, or a mapping with `name` and that critic's settings; `spectral_norm`
    holds its layers to a spectral norm of 1. `r1` is the weight of the critic's squared gradient on real images, taken
    every `r1_every` steps and then counted that many times. The loss is 0 for the first `delay` steps, in which the
    critic alone learns, and rises to its whole weight over the next `warmup`. `rate` and `betas` are the critic's.
    """

    learns = True

    def __init__(
        self,
        kind: str = "vanilla",
        critic: str | Mapping[str, Any] = "patch",
        spectral_norm: bool = False,
        r1: float = 0.0,
        r1_every: int = 16,
        delay: int = 0,
        warmup: int = 0,
        rate: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        seed: int = 0,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}, not {kind}")
        if r1 < 0 or r1_every < 1 or delay < 0 or warmup < 0 or rate <= 0:
            raise ValueError("r1, delay and warmup are at least 0, r1_every at least 1, and rate is above 0")
        self.kind, self.spectral_norm, self.r1, self.r1_every = kind, spectral_norm, r1, r1_every
        self.delay, self.warmup, self.rate, self.seed = delay, warmup, rate, seed
        self.betas = (float(betas[0]), float(betas[1]))
        chosen = {"name": critic} if isinstance(critic, str) else dict(critic)
        self.critic_name = str(chosen.pop("name", ""))
        self.critic_settings = chosen
        self._seat: _Seat | None = None
        self._check_critic()

    @property
    def share(self) -> float:
        """The part of the loss's weight that counts at the present step, 0 to 1."""
        done = (self._seat.steps if self._seat else 0) - self.delay
        return float(done >= 0) if self.warmup == 0 else min(max(done / self.warmup, 0.0), 1.0)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The scalar; its gradient reaches `sr` alone."""
        critic = self._seated(sr).critic.eval().requires_grad_(False)
        fake = critic(sr.float())
        real = critic(hr.detach().float()) if self.kind == "relativistic" else fake
        return self.share * generator_loss(self.kind, real, fake)

    def learn(self, sr: Tensor, hr: Tensor) -> dict[str, float]:
        """One step of the critic, and its figures: its loss, its mean logits, the penalty where it was taken."""
        seat = self._seated(sr)
        critic = seat.critic.train().requires_grad_(True)
        real, fake = critic(hr.detach().float()), critic(sr.detach().float())
        loss = critic_loss(self.kind, real, fake)
        figures = {"critic": loss.item(), "critic_real": real.mean().item(), "critic_fake": fake.mean().item()}
        if self.r1 > 0 and seat.steps % self.r1_every == 0:
            penalty = _steepness(critic, hr.detach().float())
            loss = loss + 0.5 * self.r1 * self.r1_every * penalty
            figures["critic_r1"] = penalty.item()
        seat.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        _average_gradients(critic)
        # A step on a loss that is not finite would leave a critic that never is again.
        if all(bool(p.grad.isfinite().all()) for p in critic.parameters() if p.grad is not None):
            seat.optimizer.step()
        seat.optimizer.zero_grad(set_to_none=True)
        seat.steps += 1
        return figures

    def learning_state(self) -> dict[str, Any]:
        """The critic, its optimiser and the steps done; empty before the first images came."""
        seat = self._seat
        if seat is None:
            return {}
        return {
            "ndim": seat.ndim,
            "channels": seat.channels,
            "steps": seat.steps,
            "critic": seat.critic.state_dict(),
            "optimizer": seat.optimizer.state_dict(),
        }

    def load_learning_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `learning_state` gave."""
        self._seat = None
        if state:
            seat = self._seat = _Seat(self._critic(state["ndim"], state["channels"]), state["ndim"], state["channels"])
            seat.equip(self.rate, self.betas)
            seat.critic.load_state_dict(state["critic"])
            seat.optimizer.load_state_dict(state["optimizer"])
            seat.steps = int(state["steps"])

    def _seated(self, x: Tensor) -> _Seat:
        """The critic for these images, made at the first and checked at all others.

        Raises:
            RecipeError: the images are too small for it, or have other channels or axes than the first.
        """
        ndim, channels, shape = x.ndim - 2, x.shape[1], tuple(x.shape[2:])
        if self._seat is None:
            self._seat = _Seat(self._critic(ndim, channels), ndim, channels)
            self._seat.critic.to(x.device)
            self._seat.equip(self.rate, self.betas)
        seat = self._seat
        if (seat.ndim, seat.channels) != (ndim, channels):
            raise RecipeError(
                f"The critic has learnt on {seat.channels} channels and {seat.ndim} axes; "
                f"now come {channels} channels and {ndim} axes."
            )
        if min(shape) < seat.critic.smallest:
            raise RecipeError(
                f"The critic {self.critic_name} needs {seat.critic.smallest} voxels on each axis; "
                f"the patch has {shape}."
            )
        seat.move(x.device)
        return seat

    def _critic(self, ndim: int, channels: int) -> Critic:
        # On the CPU and by its own seed: the same first weights on every device, in every process.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            module = registry.load("critics", self.critic_name)
            critic: Critic = module.build(ndim, channels, **self.critic_settings)
            if self.spectral_norm:
                spectral(critic)
        return critic

    def _check_critic(self) -> None:
        """Refuses settings that the critic does not take, before anything starts."""
        with torch.device("meta"):
            registry.load("critics", self.critic_name).build(2, 1, **self.critic_settings)


class _Seat:
    """A critic at work: its optimiser and its steps. No module, so that none of it counts as the loss's weights."""

    def __init__(self, critic: Critic, ndim: int, channels: int) -> None:
        self.critic, self.ndim, self.channels, self.steps = critic, ndim, channels, 0
        self.optimizer: torch.optim.Adam

    def equip(self, rate: float, betas: tuple[float, float]) -> None:
        """A fresh optimiser over the critic's weights."""
        self.optimizer = torch.optim.Adam(self.critic.parameters(), rate, betas=betas)

    def move(self, device: torch.device) -> None:
        """The critic and what its optimiser remembers, to where the images are."""
        if next(self.critic.parameters()).device != device:
            self.critic.to(device)
            self.optimizer.load_state_dict(self.optimizer.state_dict())


def _steepness(critic: nn.Module, real: Tensor) -> Tensor:
    """The squared gradient of an image's mean logit, summed over the image's voxels, averaged over images."""
    real = real.clone().requires_grad_(True)
    said = critic(real).flatten(1).mean(1).sum()
    (slope,) = torch.autograd.grad(said, real, create_graph=True)
    return slope.square().flatten(1).sum(1).mean()


def _average_gradients(critic: nn.Module) -> None:
    """The mean of all processes' gradients, where there are several, so that their critics stay one."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return
    for parameter in critic.parameters():
        if parameter.grad is not None:
            distributed.all_reduce(parameter.grad)
            parameter.grad /= distributed.get_world_size()


def build(**settings: Any) -> Loss:  # noqa: ANN401 - JSON values
    """The loss of a recipe."""
    return Adversarial(**settings)
