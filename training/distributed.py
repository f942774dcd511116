"""One run over several processes: ranks, sums over all processes, norms over the whole batch.

Started by `torchrun`, which sets RANK, WORLD_SIZE and LOCAL_RANK. Without it everything here is the identity, so that
the rest of the training needs no special case.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..bundle.errors import CheckpointError, OvsError, UsageError

_CLAIM = "ovs_edge_error_reported"

# Seconds between the last exchange and the end of a process. A thread of gloo lets go of that exchange's tensors
# shortly after it is done, outliving the group where DistributedDataParallel has been; if the interpreter is gone by
# then, it aborts the process ("terminate called without an active exception", exit code 134, torch 2.14).
_LAST_EXCHANGE = 0.5


@dataclass(frozen=True)
class Ranks:
    """This process among all."""

    rank: int = 0
    world: int = 1  # processes
    local: int = 0  # this process on its machine: its CUDA device

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise UsageError(f"RANK is {self.rank} of WORLD_SIZE {self.world}; start the processes with torchrun")

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    @classmethod
    def from_environment(cls) -> Ranks:
        """What torchrun says, or one process."""
        try:
            rank, world, local = (
                int(os.environ.get(name, default))
                for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
            )
        except ValueError as error:
            raise UsageError(f"RANK, WORLD_SIZE and LOCAL_RANK must be numbers ({error}); use torchrun") from error
        return cls(rank, world, local)


@contextmanager
def process_group(ranks: Ranks, *, cuda: bool) -> Iterator[None]:
    """Join the other processes: over NCCL on CUDA devices, over gloo on CPUs.

    When one process stops, its neighbours' next exchange fails or torchrun sends them SIGTERM, and all stop. Only the
    first to notice raises a message (exit code 2); the others exit without a message, with the same code.
    """
    if ranks.world == 1:
        yield
        return
    try:
        dist.init_process_group("nccl" if cuda else "gloo", rank=ranks.rank, world_size=ranks.world)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"the processes cannot meet ({_first_line(error)}); start them with torchrun") from error
    store: Any = dist.distributed_c10d._get_default_store()
    told: list[int] = []
    leaving = False

    def quieten() -> None:
        # Nothing may interrupt the way out, up to the message: neither torchrun's signal, nor the end of the processes
        # that read photos.
        nonlocal leaving
        leaving = True
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def stop(number: int, frame: object) -> None:
        quieten()
        told.append(number)
        raise CheckpointError(f"told to stop by signal {number}")

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except (OvsError, RuntimeError) as error:
        quieten()
        if not _claims(store):
            raise SystemExit(CheckpointError.exit_code) from None
        if told or _is_lost_peer(error):
            reason = f"told to stop by signal {told[0]}" if told else _first_line(error)
            raise CheckpointError(
                f"process {ranks.rank} of {ranks.world} lost another one ({reason}), so all stop; go on from the last "
                "saved state with --resume"
            ) from None
        raise
    finally:
        dist.destroy_process_group()
        if not cuda:
            time.sleep(_LAST_EXCHANGE)
        if not leaving:
            signal.signal(signal.SIGTERM, previous)


def _claims(store: Any) -> bool:
    """Whether no other process has reported an error; a store that went away with its host has no other readers."""
    try:
        return bool(store.add(_CLAIM, 1) == 1)
    except RuntimeError:
        return True


def _is_lost_peer(error: Exception) -> bool:
    # torch reports a lost peer by an error text alone, which differs between versions.
    if isinstance(error, OvsError):
        return False
    words = ("gloo", "nccl", "connection", "timed out", "timeout", "broken pipe", "peer")
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in words)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def active() -> bool:
    """Whether there is more than this process."""
    return dist.is_available() and dist.is_initialized()


def barrier() -> None:
    """Wait for the other processes."""
    if active():
        dist.barrier()


def summed(value: Tensor) -> Tensor:
    """Sum over the processes, without gradient. Every process must call it."""
    if active():
        value = value.detach().clone()
        dist.all_reduce(value)
    return value


def averaged(value: Tensor) -> Tensor:
    """Mean over the processes, without gradient."""
    return summed(value) / dist.get_world_size() if active() else value


def shared_count(count: Tensor) -> Tensor:
    """What a loss that sums over this process's items divides by: the items of all, per process, at least one in all.

    DistributedDataParallel averages gradients over the processes; a sum over own items, divided by this, then has the
    gradient of the mean over all items, however they are spread.
    """
    if not active():
        return count.clamp(min=1)
    return summed(count.float()).clamp(min=1) / dist.get_world_size()


class _MeanOverRanks(torch.autograd.Function):
    """Mean over the processes, whose gradient is the mean of theirs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return averaged(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return averaged(gradients[0].contiguous())


class SharedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose statistics are those of all processes' images. Torch's own works on CUDA devices only."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) of the same size in every process -> normalised."""
        if not (self.training and active()):
            return super().forward(input)
        x = input.float()
        mean = _mean_over_ranks(x.mean((0, 2, 3)))
        centred = x - mean.view(1, -1, 1, 1)
        variance = _mean_over_ranks(centred.square().mean((0, 2, 3)))
        count = x.numel() / x.shape[1] * dist.get_world_size()
        if self.track_running_stats:
            with torch.no_grad():
                assert self.running_mean is not None
                assert self.running_var is not None
                assert self.num_batches_tracked is not None
                assert self.momentum is not None
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * count / max(1.0, count - 1), self.momentum)
                self.num_batches_tracked.add_(1)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        result = centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return result.to(input.dtype)


def _mean_over_ranks(value: Tensor) -> Tensor:
    result: Tensor = _MeanOverRanks.apply(value)
    return result


def share_batch_norms(module: nn.Module) -> None:
    """Let every BatchNorm in `module` see all processes' images; parameters, buffers and their names stay."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            shared = SharedBatchNorm2d(child.num_features, child.eps, child.momentum)
            for kept, value in (*child.named_parameters(), *child.named_buffers()):
                setattr(shared, kept, value)
            setattr(module, name, shared.train(child.training))
        else:
            share_batch_norms(child)
