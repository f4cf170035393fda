"""The reinforcement program: the separator as a policy over masks, moved towards what the reward prefers.

One step, in the order of the paper (Eqs. 2 to 4, arXiv:2510.10509): propose masks, draw others around them from the
policy as it is, reward them, turn rewards into advantages, and update a few times under the clipped surrogate. The
controls run in the same loop on the same mixtures: `objective = "direct"` and `"supervised"`.
"""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from marssep.corpus.labels import class_of
from marssep.corpus.store import Corpus
from marssep.errors import SettingsError
from marssep.model import MaskNetwork, MaskOutput, ModelConfig
from marssep.policy.advantage import Advantages, Baseline, block_advantages, group_advantages
from marssep.policy.beta import BetaMaskPolicy, ConcentrationHead, concentration_at
from marssep.policy.exploration import explore
from marssep.policy.guard import Guard, Watched
from marssep.policy.surrogate import Rollout, SurrogateTerms, cell_weight, surrogate
from marssep.reward.grid import GridReward, GridRewards, GridTruth, block_snr
from marssep.reward.recogniser import Recogniser
from marssep.reward.student import GridStudent
from marssep.train.batches import Batch
from marssep.train.checkpoint import Progress
from marssep.train.credit import counterfactual_rewards
from marssep.train.data_record import data_record
from marssep.train.examples import Embeddings
from marssep.train.journal import Journal
from marssep.train.losses import GridTargets, supervised_loss
from marssep.train.probe import Judge, Probe
from marssep.train.reinforce_settings import ReinforceSettings
from marssep.train.supervised import SupervisedRun, first_network, prepare_folder, write_json

_SOME = 1e-8  # of nothing, whose sum is 0 too


@dataclasses.dataclass(frozen=True)
class RewardParts:
    """What rewards are made of.

    Attributes:
        student: of the aligned reward encoder.
        recogniser: for the reward that no gradient can pass.
        judge: watches; never rewarded.
    """

    student: GridStudent | None = None
    recogniser: Recogniser | None = None
    judge: Judge | None = None


def train_reinforce(
    settings: ReinforceSettings,
    *,
    corpus: Corpus,
    bank: Embeddings,
    output: Path,
    parts: RewardParts,
    resume: bool = False,
    quiet: bool = False,
) -> Progress:
    """Reinforce a model; folders, resuming, Ctrl-C and several processes as `train_supervised` says.

    A run that the guard stops says so in its journal and in `Progress.extra`.

    Raises:
        SettingsError: no model to start from, or settings that contradict each other.
        OutputError, ModelError: as `train_supervised`.
    """
    _check(settings)
    if parts.student is not None:
        parts.student.check_grid(settings.model.spectral)
    prepare_folder(output, resume)
    run = ReinforceRun(settings, corpus, bank, output, parts)
    if run.world.size > 1 and settings.minibatches > 1:
        raise SettingsError(
            f"minibatches = {settings.minibatches}: several processes update on the whole batch; use 1, or one process."
        )
    if run.world.is_main:
        record = data_record(corpus, settings.splits)
        for name, values in (("settings", settings.model_dump(mode="json")), ("data", record)):
            write_json(output / f"{name}.json", values)
    return run.go(resume=resume, quiet=quiet)


class PolicyNetwork(nn.Module):
    """The separator and, for a predicted concentration, its head."""

    def __init__(self, network: MaskNetwork, head: ConcentrationHead | None) -> None:
        super().__init__()
        self.separator, self.head = network, head

    def forward(self, power: Tensor, query: Tensor) -> tuple[MaskOutput, Tensor | None]:
        """Masks and, if predicted, k of every cell."""
        output = self.separator(power, query)
        if self.head is None:
            return output, None
        return output, self.head(MaskNetwork.features(power), output.logits)


class ReinforceRun(SupervisedRun):
    """The loop of the supervised program with another step in it."""

    def __init__(
        self, settings: ReinforceSettings, corpus: Corpus, bank: Embeddings, output: Path, parts: RewardParts
    ) -> None:
        self.plan, self.reward_parts = settings, parts
        super().__init__(settings, corpus, bank, output)
        self.bank = bank
        if parts.student is not None:
            parts.student.to(self.world.device)
        wanted = settings.objective != "supervised"
        self.rewards = (
            GridRewards(settings.reward, student=parts.student, recogniser=parts.recogniser) if wanted else None
        )
        self.baseline = Baseline()
        self.guard = Guard(settings.guard)
        self.reference: nn.Module | None = None
        if settings.surrogate.reference_kl_coef:
            plain = self.accelerator.unwrap_model(self.network)
            self.reference = copy.deepcopy(plain).requires_grad_(False).eval()
        watch = settings.validation.lists
        number = parts.recogniser.number if parts.recogniser else {}
        spectrogram = self.validators[0].spectrogram if self.validators else None
        self.probe = None
        if watch and spectrogram is not None:
            self.probe = Probe(
                watch[0], corpus, bank, spectrogram=spectrogram, limit=settings.probe_mixtures, number=number
            )

    def _build(self) -> nn.Module:
        network = first_network(self.plan, self.start)
        predicted = self.plan.concentration.kind == "predicted" and self.plan.objective == "reinforce"
        return PolicyNetwork(network, ConcentrationHead(self.plan.concentration) if predicted else None)

    def separator(self) -> MaskNetwork:
        """As `SupervisedRun.separator`."""
        kept: Any = self.average.module
        return kept.separator

    def _config(self) -> ModelConfig:
        assert self.start is not None
        return self.start.config  # its presence and threshold were fitted to what is moved only a little here

    def _start(self, progress: Progress, journal: Journal) -> None:
        # Norms and dropout as in deployment: what is rolled out, updated and shipped is the same function.
        self.network.eval()
        if "baseline" in progress.extra:
            self.baseline.value = progress.extra["baseline"]
        if progress.step == 0:
            self._watch(progress, journal)
        elif "first_reward" in progress.extra:
            self._remember(progress)

    def _step(self, batches: tuple[Batch, ...], progress: Progress) -> Sequence[Mapping[str, Tensor]]:
        batch = batches[0]  # one a step: `_check` refuses accumulation
        if self.plan.objective == "reinforce":
            return [self._reinforce(batch, progress)]
        return [self._plain(batch) for _ in range(self.plan.inner_epochs)]

    def _plain(self, batch: Batch) -> Mapping[str, Tensor]:
        """One update of a control."""
        output = self._propose(batch)[0]
        terms = supervised_loss(output, batch.targets, self.plan.loss, average=self.world.average)
        loss, figures = self.plan.anchor_weight * terms.loss, {}
        if self.rewards is not None:
            masks = torch.sigmoid(output.logits.float())[:, :, None]
            reward = self.rewards(masks, self._truth(batch))
            valid = batch.targets.present[..., None]
            value = (reward.total * valid).sum() / self._count(valid)
            loss = loss - self.plan.reward_weight * value
            figures = self._reward_figures(reward, valid)
        norm = self._update(loss)
        return figures | {"loss": loss.detach(), "si_sdr": terms.si_sdr, "gradient_norm": norm}

    def _reinforce(self, batch: Batch, progress: Progress) -> Mapping[str, Tensor]:
        output, k = self._propose(batch)
        policy = self._policy(output, k, progress)
        old = policy.detach()
        masks = self._draw(old, progress)
        truth, valid = self._truth(batch), batch.targets.present
        with torch.no_grad():
            assert self.rewards is not None
            reward = self.rewards(masks, truth)
            advantages = self._credit(reward, masks, old=old, truth=truth, valid=valid)
            # only rows whose groups count are worth the work of the surrogate
            rollout = Rollout(
                masks,
                BetaMaskPolicy(old.proposal.unsqueeze(2), _widen(old.concentration)).log_prob(masks),
                advantages.values,
                advantages.kept,
                cell_weight(batch.targets.power, energy=self.plan.surrogate.energy_weight),
            )
        figures: dict[str, Tensor] = {}
        first = True
        for _ in range(self.plan.inner_epochs):
            for rows in torch.arange(len(masks)).chunk(self.plan.minibatches):
                if not first or self.plan.minibatches > 1:
                    output, k = self._propose(batch, rows)
                    policy = self._policy(output, k, progress)
                first = False
                terms, supervised = self._losses(
                    policy, output, batch, rollout=_rows(rollout, rows), old=old, rows=rows
                )
                loss = self.plan.reward_weight * terms.loss + self.plan.anchor_weight * supervised.loss
                norm = self._update(loss)
                figures = _figures(terms) | {"loss": loss.detach(), "si_sdr": supervised.si_sdr, "gradient_norm": norm}
        progress.extra["baseline"] = self.baseline.value or 0.0
        proposal = old.proposal
        return (
            figures
            | self._reward_figures(reward, valid[..., None])
            | {
                "advantage_spread": advantages.spread,
                "kept_groups": advantages.kept.sum() / self._count(valid),
                "mask_below_0.1": (proposal < 0.1).float().mean(),
                "mask_above_0.9": (proposal > 0.9).float().mean(),
                "mask_contrast": (proposal - 0.5).abs().mean(),
                "concentration": old.concentration.mean(),
            }
        )

    def _losses(
        self,
        policy: BetaMaskPolicy,
        output: MaskOutput,
        batch: Batch,
        *,
        rollout: Rollout,
        old: BetaMaskPolicy,
        rows: Tensor,
    ) -> tuple[SurrogateTerms, Any]:
        before = BetaMaskPolicy(old.proposal[rows], _pick(old.concentration, rows))
        reference = None
        if self.reference is not None:
            with torch.no_grad(), self.world.autocast():
                far, k = self.reference(batch.targets.power[rows], batch.query[rows])
            reference = BetaMaskPolicy.around(
                torch.sigmoid(far.logits.float()), policy.concentration if k is None else k
            )
            reference = reference.detach()
        average = self.world.average
        terms = surrogate(policy, rollout, self.plan.surrogate, old=before, reference=reference, average=average)
        return terms, supervised_loss(output, _target_rows(batch.targets, rows), self.plan.loss, average=average)

    def _propose(self, batch: Batch, rows: Tensor | None = None) -> tuple[MaskOutput, Tensor | None]:
        power, query = batch.targets.power, batch.query
        if rows is not None:
            power, query = power[rows], query[rows]
        with self.world.autocast():
            output, k = self.network(power, query)
        return MaskOutput(output.logits.float(), output.presence.float()), k

    def _policy(self, output: MaskOutput, k: Tensor | None, progress: Progress) -> BetaMaskPolicy:
        chosen = concentration_at(self.plan.concentration, progress.step / self.plan.steps) if k is None else k
        return BetaMaskPolicy.around(torch.sigmoid(output.logits), chosen)

    def _draw(self, old: BetaMaskPolicy, progress: Progress) -> Tensor:
        # Decided by seed and step alone, so that a resumed run and any number of processes try the same masks.
        generator = torch.Generator().manual_seed(((self.plan.seed + 1) * 1_000_003 + progress.step) * 1009)
        part = (self.world.rank, self.world.size)
        return explore(old, self.plan.group_size, self.plan.exploration, generator=generator, part=part)

    def _credit(
        self, reward: GridReward, masks: Tensor, *, old: BetaMaskPolicy, truth: GridTruth, valid: Tensor
    ) -> Advantages:
        settings = self.plan.advantage
        if settings.kind == "paper":
            whole, own = self.world.gather(reward.total), self.world.own(len(valid))
            found = self.baseline.advantages(whole, settings, valid=self.world.gather(valid.float()) > 0)
            return Advantages(found.values[own], found.kept[own], found.spread)
        if settings.kind == "group":
            return group_advantages(reward.total, settings, valid=valid)
        if settings.kind == "local":
            return block_advantages(block_snr(masks, truth, blocks=settings.blocks), settings, valid=valid)
        assert self.rewards is not None
        blocks = counterfactual_rewards(self.rewards, reward.total, masks, old.proposal, truth, blocks=settings.blocks)
        return block_advantages(blocks, settings, valid=valid)

    def _truth(self, batch: Batch) -> GridTruth:
        number = self.reward_parts.recogniser.number if self.reward_parts.recogniser else {}
        names = [[torch.from_numpy(self.bank.text(class_of(label).text)) for label in row] for row in batch.labels]
        device = batch.query.device
        targets = batch.targets
        return GridTruth(
            targets.power,
            targets.target_power,
            targets.cross_power,
            targets.cell_weight,
            nn.functional.normalize(torch.stack([torch.stack(row) for row in names]).float(), dim=-1).to(device),
            torch.tensor([[number.get(label, -1) for label in row] for row in batch.labels], device=device),
        )

    def _update(self, loss: Tensor) -> Tensor:
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), self.plan.optimiser.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.update_parameters(self.accelerator.unwrap_model(self.network))
        return torch.as_tensor(norm).detach()

    def _count(self, valid: Tensor) -> Tensor:
        """How many count, as a mean over the processes, so that the mean of their means is that of all."""
        return self.world.average(valid.sum().float()).clamp_min(_SOME)

    def _reward_figures(self, reward: GridReward, valid: Tensor) -> dict[str, Tensor]:
        count = self._count(valid) * reward.total.shape[2]
        parts = {
            "reward": reward.total.detach(),
            **{f"reward_{name}": part for name, part in reward.components.items()},
        }
        return {name: (part * valid).sum() / count for name, part in parts.items()}

    def _validate(self, progress: Progress, journal: Journal) -> None:
        super()._validate(progress, journal)
        self._watch(progress, journal)

    def _watch(self, progress: Progress, journal: Journal) -> None:
        if self.probe is None:
            return
        watched = self.probe.watch(self.separator().eval(), self.rewards, self.reward_parts.judge)
        seen = {name: value for name, value in dataclasses.asdict(watched).items() if value is not None}
        journal.write(progress.step, {f"probe_{name}": value for name, value in seen.items()})
        reason = self.guard.check(watched)
        if self.guard.first is watched:
            progress.extra |= {f"first_{name}": value for name, value in seen.items()}
        if reason is not None:
            journal.note(progress.step, f"guard: {reason}")
            if self.plan.guard.enabled:
                progress.stopped = reason
                self.stopping = True

    def _remember(self, progress: Progress) -> None:
        """The guard of a resumed run compares with the state before the run's first step."""
        names = [field.name for field in dataclasses.fields(Watched)]
        self.guard.first = Watched(**{name: progress.extra.get(f"first_{name}") for name in names})  # type: ignore[arg-type]


def _check(settings: ReinforceSettings) -> None:
    if settings.start is None:
        raise SettingsError("start: a reinforced run goes on from a model; name a shipped one or a folder.")
    if settings.accumulation > 1:
        raise SettingsError("accumulation > 1: a rollout is updated as a whole; use a smaller batch_size instead.")
    if settings.objective == "direct" and set(settings.reward.weights) <= {"recogniser"}:
        raise SettingsError("objective = 'direct': no gradient can pass the recogniser; use objective = 'reinforce'.")
    if settings.objective == "reinforce" and settings.group_size == 1 and settings.advantage.kind != "paper":
        raise SettingsError(
            f"group_size = 1: advantage.kind = '{settings.advantage.kind}' compares the masks of a group; draw at "
            "least 2, or use the paper's advantage."
        )


def _figures(terms: SurrogateTerms) -> dict[str, Tensor]:
    names = [field.name for field in dataclasses.fields(terms) if field.name != "loss"]
    return {name: getattr(terms, name) for name in names}


def _rows(rollout: Rollout, rows: Tensor) -> Rollout:
    if len(rows) == len(rollout.masks):
        return rollout
    return Rollout(*(getattr(rollout, field.name)[rows] for field in dataclasses.fields(rollout)))


def _target_rows(targets: GridTargets, rows: Tensor) -> GridTargets:
    if len(rows) == len(targets.power):
        return targets
    return GridTargets(
        targets.power[rows],
        targets.target_power[rows],
        targets.cross_power[rows],
        targets.cell_weight,
        targets.present[rows],
    )


def _widen(concentration: Tensor) -> Tensor:
    return concentration if concentration.dim() == 0 else concentration.unsqueeze(2)


def _pick(concentration: Tensor, rows: Tensor) -> Tensor:
    return concentration if concentration.dim() == 0 else concentration[rows]
