"""Listeners of the states of rules hear of changes alone, in their order."""

from __future__ import annotations

from ovs_edge.runtime.events.rule_states import RuleStates


def test_listeners_hear_of_changes_alone() -> None:
    states, heard = RuleStates(), []

    def listener(camera: str, rule: str | None, on: bool) -> None:
        heard.append((camera, rule, on, states.is_playing(camera) if rule is None else states.is_on(camera, rule)))

    states.set("yard", {"before": True}, playing=True)
    states.listen(listener)
    states.set("yard", {"before": True, "a": True, "b": False}, playing=True)
    states.set("yard", {"before": True, "a": True, "b": False}, playing=True)
    states.set("door", {"a": True}, playing=True)
    states.set("yard", {"before": True}, playing=False)
    states.set("yard", {}, playing=False)
    states.forget(listener)
    states.set("door", {"a": False}, playing=True)
    assert heard == [
        ("yard", "a", True, True),
        ("door", "a", True, True),
        ("door", None, True, True),
        ("yard", "a", False, False),
        ("yard", None, False, False),
        ("yard", "before", False, False),
    ]
    assert not states.is_on("door", "a")
    assert not states.is_on("nowhere", "a")
