"""Listeners of the states of rules hear of changes alone, in their order."""

from __future__ import annotations

from ovs_edge.runtime.events.rule_states import RuleStates


def test_listeners_hear_of_changes_alone() -> None:
    states, heard = RuleStates(), []

    def listener(camera: str, rule: str, on: bool) -> None:
        heard.append((camera, rule, on, states.is_on(camera, rule)))

    states.set("yard", {"before": True})
    states.listen(listener)
    states.set("yard", {"before": True, "a": True, "b": False})
    states.set("yard", {"before": True, "a": True, "b": False})
    states.set("door", {"a": True})
    states.set("yard", {})
    states.forget(listener)
    states.set("door", {"a": False})
    assert heard == [
        ("yard", "a", True, True),
        ("door", "a", True, True),
        ("yard", "a", False, False),
        ("yard", "before", False, False),
    ]
    assert not states.is_on("door", "a")
    assert not states.is_on("nowhere", "a")
