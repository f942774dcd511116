"""Text-guided distillation (Han et al. 2023, GKC): queries are pulled to what a frozen teacher sees in their regions.

All vectors are of unit length, in the text encoder's space. A zero row of the teacher's is a region it knows nothing
of.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Regions:
    """What is known of the segments of one image beside their pixels."""

    teacher: Tensor  # (T, D) the teacher's vector of each segment, a zero row where none is to be met
    text: Tensor  # (T, D) the plain name of each segment's class
    drawn: Tensor  # (T, D) the name drawn for each segment, see `NamesMode`; without a draw the plain one
    absent: Tensor  # (N, D) names that compete with the drawn ones: of categories that the image does not show

    def to(self, device: torch.device) -> Regions:
        """The same on another device."""
        return Regions(*(part.to(device) for part in (self.teacher, self.text, self.drawn, self.absent)))


@dataclass(frozen=True)
class Distillation:
    """Sums over the regions of some images, and over how many."""

    region: Tensor  # sum of |s - t|^2
    pairs: Tensor  # sum of (scale * <text_a, text_b> - <s_a, t_b>)^2
    regions: int
    pair_count: int


def rank_of(teacher: Tensor, names: Tensor, classes: Tensor) -> Tensor:
    """How many names (K, D) lie nearer to the teacher's vectors (T, D) than those of the regions' own classes (T,)."""
    nearness = teacher @ names.T
    return (nearness > nearness.gather(1, classes[:, None])).sum(1)


class Distiller(nn.Module):
    """The training-only part of the distillation.

    The student is a query's vector in the text space, the very one that names classify: the model's own text projection
    is the projection to the teacher. Another one behind it, of the distillation alone, would take up the difference
    between the two and leave the model as it was.

    Vectors of words, and even more those of regions, have much in common that says nothing of what they mean: pulled to
    it, a query comes near to every word that is near to all. So both sides can be compared without their means.
    """

    student_mean: Tensor  # (D,) of the names; zero: nothing is taken off
    teacher_mean: Tensor  # (D,) of the teacher's vectors

    def __init__(self, student_mean: Tensor, teacher_mean: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))  # lambda: how much closer names are than regions
        self.register_buffer("student_mean", student_mean)
        self.register_buffer("teacher_mean", teacher_mean)


def region_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum of squared distances of unit vectors (N, D)."""
    return (student - teacher).square().sum()


def pair_loss(student: Tensor, teacher: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Regions (N, D) of one image should be as alike as their names: a sum over the ordered pairs of different
    regions."""
    difference = scale * (text @ text.T) - student @ teacher.T
    return (difference - torch.diag(difference.diagonal())).square().sum()


def distill(
    distiller: Distiller,
    embedding: Tensor,
    matches: list[tuple[Tensor, Tensor]],
    regions: list[Regions],
) -> Distillation:
    """Both losses of one decoder depth.

    embedding (B, Q, D) unit; matches: per image the queries (M,) and their segments (M,).
    """
    chosen, teachers, texts = [], [], []
    for index, ((queries, segments), region) in enumerate(zip(matches, regions, strict=True)):
        known = (region.teacher[segments] != 0).any(-1)
        chosen.append(embedding[index, queries[known]])
        teachers.append(region.teacher[segments[known]])
        texts.append(region.text[segments[known]])
    unit = nn.functional.normalize
    student = unit(torch.cat(chosen) - distiller.student_mean, dim=-1)
    teachers = [unit(teacher - distiller.teacher_mean, dim=-1) for teacher in teachers]
    texts = [unit(text - distiller.student_mean, dim=-1) for text in texts]
    total = region_loss(student, torch.cat(teachers))
    pairs = distiller.scale * 0  # even without a region, so that it has a gradient in every process
    count = 0
    for own, teacher, text in zip(torch.split(student, [len(t) for t in teachers]), teachers, texts, strict=True):
        pairs = pairs + pair_loss(own, teacher, text, distiller.scale)
        count += len(teacher) * (len(teacher) - 1)
    return Distillation(total, pairs, len(student), count)
