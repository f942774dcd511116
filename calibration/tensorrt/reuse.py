"""Finds a cached plan that fits the options of ovs-build."""

from __future__ import annotations

import os
from contextlib import suppress

from ...bundle.bundle import Bundle
from ...bundle.errors import PlanError
from ...runtime.engines.plan import SIDECAR, Plan, Target, cached, fitting
from .make_plan import AUTO, Candidate, PlanOptions, candidates
from .photos import Pictures


def find_cached(bundle: Bundle, options: PlanOptions, here: Target, pictures: Pictures) -> Plan:
    """The cached plan that fits `options`; raises `PlanError` that says why there is none.

    Only options that were given must match. The plan becomes the newest, which is the one that ovs-run takes.
    """
    wanted = candidates(bundle, options, gpu=True)
    if options.precision == AUTO:
        plan = _chosen(bundle, options, wanted, here)
    else:
        plan = fitting(bundle, options.precision, here, options.profiles)
    if reasons := differences(plan, options, pictures):
        raise PlanError(f"{plan.path} does not fit: {'; '.join(reasons)}")
    with suppress(OSError):
        os.utime(plan.path / SIDECAR)
    return plan


def _chosen(bundle: Bundle, options: PlanOptions, wanted: list[Candidate], here: Target) -> Plan:
    """The latest choice of --precision auto among the same candidates."""
    choices = tuple(map(str, wanted))
    plans = []
    for precision in dict.fromkeys(candidate.precision for candidate in wanted):
        with suppress(PlanError):
            plans.append(fitting(bundle, precision, here, options.profiles))
    plans = [plan for plan in plans if plan.sidecar.chosen_from == choices]
    if not plans:
        raise PlanError(f"nothing was chosen yet for {here} among {', '.join(choices)}")
    return max(plans, key=lambda plan: (plan.path / SIDECAR).stat().st_mtime)


def differences(plan: Plan, options: PlanOptions, pictures: Pictures) -> list[str]:
    """Options that were given and differ from `plan`, in words."""
    sidecar = plan.sidecar
    found = []
    if options.msda not in (AUTO, sidecar.formulation):
        found.append(f"it samples by {sidecar.formulation}, not by {options.msda}")
    if options.level not in (None, sidecar.level):
        found.append(f"it was built at level {sidecar.level}, not {options.level}")
    if options.workspace not in (None, sidecar.workspace):
        found.append("it was built with another --workspace")
    if options.images is not None and sidecar.parity.get("pictures_sha256") != pictures.digest:
        found.append("it was compared on other pictures")
    return found


def newest_cached(bundle: Bundle, precision: str) -> Plan | None:
    """The newest cached plan, of this GPU or another, for --inspect; None where there is none."""
    names = list(bundle.manifest.precisions) if precision == AUTO else [precision]
    plans = [plan for name in names for plan in cached(bundle, name)]
    return max(plans, key=lambda plan: (plan.path / SIDECAR).stat().st_mtime, default=None)
