"""The language of rules, and files that hold them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.events.config import parse_places, parse_toml, parse_watch
from ovs_edge.runtime.events.delivery.options import parse_delivery
from ovs_edge.runtime.events.grammar import parse_rule, rule_text
from ovs_edge.runtime.events.places import FRAME
from ovs_edge.runtime.events.rules import OPERATORS, Condition, Limit, Rule

PERSON_IN_DOOR = Rule(Condition.IN, "person", "door", seconds=2.0)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("person in door for 2s", PERSON_IN_DOOR),
        ("  person   in door FOR 2 s ", PERSON_IN_DOOR),
        ("count(car in yard) > 3", Rule(Condition.COUNT, "car", "yard", Limit(">", 3))),
        ("count(car) >= 1", Rule(Condition.COUNT, "car", FRAME, Limit(">=", 1))),
        (
            "coverage(water in floor) > 5% until < 2.5% gap 500ms",
            Rule(Condition.COVERAGE, "water", "floor", Limit(">", 5), Limit("<", 2.5), gap=0.5),
        ),
        ("cat crosses line_a", Rule(Condition.CROSSES, "cat", "line_a")),
        ("cat crosses line_a to Left cooldown 1min", Rule(Condition.CROSSES, "cat", "line_a", cooldown=60, direction="left")),
        ("no pallet in bay for 1h", Rule(Condition.NO, "pallet", "bay", seconds=3600)),
        ("traffic light in front yard", Rule(Condition.IN, "traffic light", "front yard")),
        ('"man in black" in "no go"', Rule(Condition.IN, "man in black", "no go")),
        ("count dracula enters yard", None),
        ('"count" enters yard', Rule(Condition.ENTERS, "count", "yard")),
        ("person stays in door for 1.5s", Rule(Condition.STAYS, "person", "door", seconds=1.5)),
        ("Fußgänger in Einfahrt", Rule(Condition.IN, "Fußgänger", "Einfahrt")),
    ],
)  # fmt: skip
def test_rules_as_people_write_them(text: str, rule: Rule | None) -> None:
    if rule is None:
        with pytest.raises(UsageError, match="quoted"):
            parse_rule(text)
    else:
        assert parse_rule(text) == rule


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty, expected one such as: person in door for 2s"),
        ("count(car) > 3 until > 5", "at 10000 the state would begin and end, expected an `until` that begins where"),
        ("count(car in yard) > 3 until > 1", "the state would begin and end"),
        ("count(car in yard) < 3 until < 1", "at 0 the state would begin and end"),
        ("coverage(a in b) >= 5% until <= 5%", "at 5 the state would begin and end"),
        ("person:0.7 in door", "':0.7' in 'person:0.7' belongs to a class list, expected one name alone"),
        ("count(car|van in yard) > 3", "'|' in 'car|van' belongs to a class list"),
        ("person, car in door", "',' in 'person, car' belongs to a class list"),
        ("person crosses frame", "`frame` is the whole picture, expected a line, or: person enters frame"),
        (
            "person in door for 99999999999999999999h",
            "the time after `for` is 99999999999999999999, expected more than none",
        ),
        ("count(car in yard) > 1e3", "a number after the comparison, 0 or more and in digits"),
        ("person", "it ends, expected in, enters, leaves, stays in or crosses after the class"),
        ("person in", "it ends, expected a zone"),
        ("in door", "there is 'in', expected a class"),
        ("person in door for", "it ends, expected a time after `for`, such as 500ms, 2s, 5min or 1h"),
        ("person in door for 2", "there is '2', expected a time after `for`"),
        ("person in door for 0s", "the time after `for` is 0s, expected more than none"),
        ("person in door for 2s for 3s", "`for` stands there twice"),
        ("person in door then run", "door then run"),
        ("count(car in yard)", "it ends, expected a comparison, one of > >= < <= = !="),
        ("count(car in yard) > many", "there is 'many', expected a number"),
        ("count(car in yard) > 1.5", "the count is 1.5, expected a whole number"),
        ("count(car in yard > 3", "there is '>', expected `)`: count(car in ZONE)"),
        ("coverage(water in floor) > 5", "it ends, expected a share in percent"),
        ("coverage(water in floor) > 500%", "the coverage is 500%, expected 0% to 100%"),
        ("person in door until > 3", "`until` is for counts and coverages"),
        ("cat crosses a to up", "there is 'up', expected left or right after `to`"),
        ("cat crosses a gap 2s", "`gap` is for states, not for crosses"),
        ("cat enters a for 2s", "enters happens in a moment, expected no `for`; use `stays in`"),
        ("person stays door for 2s", "there is 'door', expected `stays in` and a zone"),
        ("person stays in door", "`stays in` needs a time: person stays in door for 10s"),
        ('"person in door', "there is '\"', expected words, or a name in"),
        ("person in door ! now", "there is '!'"),
        ("person in a\udcff", r"the name 'a\xff' holds '\xff', expected a zone"),
        ("x" * 301 + " in door", "the name has 301 characters, expected a class"),
        ("x" * 2000 + " in door", "a rule has 2008 characters, expected at most 1000"),
    ],
)
def test_errors_say_what_was_found_and_expected(text: str, said: str) -> None:
    if text == "person in door then run":  # names may be several words
        assert parse_rule(text).place == "door then run"
        return
    with pytest.raises(UsageError) as refused:
        parse_rule(text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


names = (
    st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), min_size=1, max_size=30)
    .map(lambda text: " ".join(text.split()))
    .filter(lambda text: bool(text) and text.isprintable())
)
words = st.sampled_from(
    ["person", "in", "man in black", "for 2s", "count", "a(b", 'the "best"', "50%", "no", "x\\y", "到"]
)
times = st.integers(1, 10**8).map(lambda ms: ms / 1000) | st.just(0.0)


def _near(limit: Limit, until: Limit, top: float) -> list[float]:
    """Where the two may hold together, if they do anywhere."""
    step = 1.0 if top > 100 else 1e-6
    near = [number + by for number in (limit.number, until.number) for by in (-step, 0.0, step)]
    return [value for value in (0.0, *near, top) if 0 <= value <= top]


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    condition = draw(st.sampled_from(list(Condition)))
    label, place = draw(names | words), draw(names | words | st.just(FRAME))
    cooldown = draw(times)
    if condition.lasting:
        limit = until = None
        if condition in (Condition.COUNT, Condition.COVERAGE):
            top = 100 if condition is Condition.COVERAGE else 10_000
            numbers = st.integers(0, top) if top > 100 else st.integers(0, 10**8).map(lambda value: value / 10**6)
            limits = st.builds(Limit, st.sampled_from(OPERATORS), numbers.map(float))
            limit, until = draw(limits), draw(st.none() | limits)
            if until is not None and any(
                limit.holds(value) and until.holds(value) for value in _near(limit, until, top)
            ):
                until = None
        return Rule(condition, label, place, limit, until, draw(times), draw(times), cooldown)
    if condition is Condition.STAYS:
        return Rule(condition, label, place, seconds=draw(times.filter(bool)), cooldown=cooldown)
    place = "line_a" if condition is Condition.CROSSES and place == FRAME else place
    direction = draw(st.sampled_from([None, "left", "right"])) if condition is Condition.CROSSES else None
    return Rule(condition, label, place, cooldown=cooldown, direction=direction)


@given(rules())
def test_a_rule_that_is_written_and_read_is_the_same(rule: Rule) -> None:
    text = rule_text(rule)
    assert parse_rule(text) == rule
    assert rule_text(parse_rule(text)) == text


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(["person", "in", "door", "for", "2s", "count", "(", ")", ">", "%", '"', "no", "until", "to"])
    ).map(" ".join)
)
def test_any_text_is_a_rule_or_one_clear_line(text: str) -> None:
    try:
        rule = parse_rule(text)
    except UsageError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 400
    else:
        assert parse_rule(rule_text(rule)) == rule


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "expected 1 to 64 characters"),
        ("x" * 65, "expected 1 to 64 characters"),
        ("a\u202e", r"a zone is called 'a\u202e', which holds '\u202e'; expected letters that can be seen, and spaces"),
        ("a\u00a0b", r"which holds '\xa0'"),
        ("a  b", "the name of the zone 'a b' has more spaces; expected one between words"),
        ("frame", "which is the name of the whole picture"),
    ],
)
def test_names_of_zones_that_are_none(name: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_places({"zones": {name: {"points": [[0, 0], [1, 0], [1, 1]]}}})
    assert said in str(refused.value)


# -- files -----------------------------------------------------------------------------------------------------------

_GOOD = """
camera = "front"
rules = ["person in door for 2s", "count(car in yard) > 3 until < 2", "cat crosses line_a to left cooldown 10s"]
[zones.door]
points = [[0.4, 0.35], [0.6, 0.35], [0.6, 0.95], [0.4, 0.95]]
anchor = "foot"
[zones.yard]
points = [[0, 0], [1, 0], [1, 1]]
[lines.line_a]
points = [[0.1, 0.6], [0.9, 0.6]]
[mqtt]
url = "mqtt://user@broker:1883"
password = "x"
[webhook]
url = "https://example.org/hook"
secret = "y"
[command]
run = ["true"]
[spool]
most_events = 100
"""
_PIECES = [
    "[",
    "]",
    '"',
    "=",
    "0.5",
    "nan",
    "-1",
    "1e99",
    "true",
    "zones",
    "[zones.door]",
    "points",
    "rules",
    "\n",
    "in",
    "%",
    "\0",
    "'''",
    "é",
    "[[0,0],[1,1]]",
    "inf",
    "{}",
    "99999999999999999999",
    "1979-05-27",
    "mqtt",
    "url",
    " for 2s",
]


def test_a_thousand_random_files_give_an_answer_or_one_clear_line() -> None:
    chance = random.Random(7)
    answers = refusals = 0
    for _ in range(1000):
        text = _GOOD
        for _ in range(chance.randint(0, 4)):
            at = chance.randrange(len(text) + 1)
            action = chance.randrange(4)
            if action == 0:
                text = text[:at] + chance.choice(_PIECES) + text[at:]
            elif action == 1:
                text = text[:at] + text[at + chance.randint(1, 12) :]
            elif action == 2:
                other = chance.randrange(len(text) + 1)
                text = text[:at] + text[other : other + 20] + text[at:]
            else:
                text = text[:at] + chance.choice(_PIECES) + text[at + chance.randint(1, 6) :]
        try:
            table = parse_toml(text.encode("utf-8", "replace"), "zones.toml")
            watch = parse_watch(table, "zones.toml")
            parse_delivery(table, "zones.toml")
        except UsageError as error:
            refusals += 1
            assert str(error).startswith("zones.toml")
            assert "\n" not in str(error), str(error)
            assert len(str(error)) < 600, str(error)
        else:
            answers += 1
            assert all(parse_rule(rule_text(rule)) == rule for rule in watch.rules.values())
    assert answers > 100
    assert refusals > 300
