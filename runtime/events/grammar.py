r"""The language of rules, one rule a line.

    rule      = condition { "for" TIME | "gap" TIME | "cooldown" TIME | "until" COMPARE NUMBER }
    condition = NAME "in" NAME                            person in door for 2s
              | "no" NAME "in" NAME                       no pallet in bay for 1min
              | "count" "(" NAME [ "in" NAME ] ")" COMPARE NUMBER          count(car in yard) > 3 until < 2
              | "coverage" "(" NAME [ "in" NAME ] ")" COMPARE NUMBER "%"   coverage(water in floor) > 5%
              | NAME "enters" NAME                        person enters yard
              | NAME "leaves" NAME
              | NAME "stays" "in" NAME                    person stays in door for 10s
              | NAME "crosses" NAME [ "to" ("left" | "right") ]            cat crosses line_a to left
    COMPARE   = ">" | ">=" | "<" | "<=" | "=" | "!="
    TIME      = NUMBER ("ms" | "s" | "min" | "h")
    NAME      = words, or text in "double quotes" with \" and \\ inside

A name may be several words: `traffic light in front yard`. One that holds a word of this language, a sign, a comma, `|`
or a threshold is quoted: `"man in black" in door`. The first name is a class, the second a zone or line; `frame` is the
whole picture, and the zone where none is named.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ...bundle.errors import UsageError
from ...bundle.vocabulary import MAX_NAME
from .places import FRAME
from .rules import OPERATORS, Condition, Limit, Rule

_OPTIONS = ("for", "gap", "cooldown", "until")
_VERBS = ("in", "enters", "leaves", "stays", "crosses")
_KEYWORDS = frozenset({*_OPTIONS, *_VERBS, "no", "count", "coverage", "to"})
_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_LONGEST = 1000  # characters of a rule
_MOST_SECONDS = 7 * 24 * 3600.0
_MOST_COUNT = 10_000
_TOKEN = re.compile(
    r"""\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<sign>[()%]|[<>!]=|[<>=])|(?P<word>[^\s"()%<>=!]+)|(?P<bad>\S))"""
)
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,6})?", re.ASCII)
_LIST_SYNTAX = re.compile(r"[|,]|:\s*[0-9.]+$")  # of class lists, where a rule takes one name
_TIME = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|min|h)", re.ASCII)


@dataclass(frozen=True)
class _Token:
    text: str
    quoted: bool = False

    @property
    def keyword(self) -> str:
        """The word of the language that it is, or ""."""
        return "" if self.quoted or self.text.lower() not in _KEYWORDS else self.text.lower()

    @property
    def sign(self) -> str:
        return self.text if not self.quoted and (self.text in OPERATORS or self.text in "()%") else ""


def parse_rule(text: str) -> Rule:
    """The rule that `text` is. Raises `UsageError`: one line that says what was found and what was expected."""
    parser = _Parser(text)
    rule = parser.options(parser.condition())
    if rule.condition is Condition.STAYS and not rule.seconds:
        raise parser.error("`stays in` needs a time: person stays in door for 10s")
    return rule


def rule_text(rule: Rule) -> str:
    """`rule` in the language; `parse_rule` gives an equal rule back."""
    label, place = _named(rule.label), _named(rule.place)
    if rule.condition in (Condition.COUNT, Condition.COVERAGE):
        unit = "%" if rule.condition is Condition.COVERAGE else ""
        inside = label if rule.place == FRAME else f"{label} in {place}"
        parts = [f"{rule.condition.value}({inside})", _limited(rule.limit, unit)]
        if rule.until is not None:
            parts += ["until", _limited(rule.until, unit)]
    elif rule.condition is Condition.NO:
        parts = ["no", label, "in", place]
    elif rule.condition is Condition.STAYS:
        parts = [label, "stays in", place]
    else:
        parts = [label, rule.condition.value, place, *(["to", rule.direction] if rule.direction else [])]
    for word, seconds in (("for", rule.seconds), ("gap", rule.gap), ("cooldown", rule.cooldown)):
        if seconds:
            parts += [word, f"{_plain(seconds)}s"]
    return " ".join(parts)


def _named(name: str) -> str:
    bare = _LIST_SYNTAX.search(name) is None and all(
        re.fullmatch(r"[^\s\"()%<>=!\\]+", word) and word.lower() not in _KEYWORDS for word in name.split(" ")
    )
    return name if bare else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _limited(limit: Limit | None, unit: str) -> str:
    return "" if limit is None else f"{limit.operator} {_plain(limit.number)}{unit}"


def _plain(number: float) -> str:
    return f"{number:.6f}".rstrip("0").rstrip(".")


class _Parser:
    """Reads one rule from left to right."""

    def __init__(self, text: str) -> None:
        self._text = " ".join(text.split()) if "\n" not in text.strip() else text
        if len(text) > _LONGEST:
            raise UsageError(f"a rule has {len(text)} characters, expected at most {_LONGEST}")
        self._tokens: list[_Token] = []
        for found in _TOKEN.finditer(text):
            if found["bad"]:
                raise self.error(f"there is {found['bad']!r}", 'words, or a name in "double quotes"')
            if found["quoted"] is not None:
                self._tokens.append(_Token(re.sub(r"\\(.)", r"\1", found["quoted"]), quoted=True))
            else:
                self._tokens.append(_Token(found["sign"] or found["word"]))
        self._at = 0

    def error(self, found: str, expected: str = "") -> UsageError:
        """The error for this rule."""
        shown = self._text if len(self._text) <= 80 else f"{self._text[:77]}..."
        return UsageError(f"rule {shown!r}: {found}{', expected ' + expected if expected else ''}")

    # -- tokens ------------------------------------------------------------------------------------------------------

    def _peek(self, ahead: int = 0) -> _Token | None:
        place = self._at + ahead
        return self._tokens[place] if place < len(self._tokens) else None

    def _found(self) -> str:
        token = self._peek()
        return "it ends" if token is None else f"there is {token.text!r}"

    def _take_keyword(self, *words: str) -> str:
        """The next token if it is one of `words`, else ""."""
        token = self._peek()
        if token is None or token.keyword not in words:
            return ""
        self._at += 1
        return token.keyword

    def _take_sign(self, *signs: str) -> str:
        token = self._peek()
        if token is None or not token.sign or token.sign not in signs:
            return ""
        self._at += 1
        return token.sign

    def _name(self, what: str) -> str:
        words: list[str] = []
        quoted = (first := self._peek()) is not None and first.quoted
        while (token := self._peek()) is not None and not token.keyword and not token.sign:
            if token.quoted and words:
                break
            words.append(token.text)
            self._at += 1
            if token.quoted:
                break
        name = " ".join(" ".join(words).split())
        if not quoted and (syntax := _LIST_SYNTAX.search(name)) is not None:
            raise self.error(
                f"{syntax[0]!r} in {name[:40]!r} belongs to a class list",
                f'one name alone; in double quotes if it is one: "{name[:40]}"',
            )
        if not name or not name.isprintable() or len(name) > MAX_NAME:
            found = self._found() if not words else f"the name has {len(name)} characters"
            if odd := [letter for letter in name if not letter.isprintable()]:
                found = f"the name {name[:40]!r} holds {odd[0]!r}"
            raise self.error(found, f'{what}; one that holds a word of the language is quoted: "man in black"')
        return name

    # -- the language ------------------------------------------------------------------------------------------------

    def condition(self) -> Rule:
        """Everything up to the options."""
        first, second = self._peek(), self._peek(1)
        if first is None:
            raise self.error("it is empty", "one such as: person in door for 2s")
        if first.keyword in ("count", "coverage") and second is not None and second.sign == "(":
            return self._measured(Condition(first.keyword))
        if self._take_keyword("no"):
            label = self._name("a class after `no`")
            if not self._take_keyword("in"):
                raise self.error(self._found(), "`in` and a zone: no person in door")
            return Rule(Condition.NO, label, self._name("a zone"))
        label = self._name("a class")
        word = self._take_keyword(*_VERBS)
        if not word:
            raise self.error(self._found(), "in, enters, leaves, stays in or crosses after the class")
        if word == "stays" and not self._take_keyword("in"):
            raise self.error(self._found(), "`stays in` and a zone")
        rule = Rule(Condition(word), label, self._name("a line" if word == "crosses" else "a zone"))
        if rule.condition is Condition.CROSSES and rule.place == FRAME:
            raise self.error(f"`{FRAME}` is the whole picture", f"a line, or: {label} enters {FRAME}")
        if rule.condition is Condition.CROSSES and self._take_keyword("to"):
            side = self._peek()
            if side is None or side.text.lower() not in ("left", "right"):
                raise self.error(self._found(), "left or right after `to`")
            self._at += 1
            rule = replace(rule, direction=side.text.lower())
        return rule

    def _measured(self, condition: Condition) -> Rule:
        self._at += 2
        label = self._name("a class")
        place = self._name("a zone") if self._take_keyword("in") else FRAME
        if not self._take_sign(")"):
            raise self.error(self._found(), f"`)`: {condition.value}({label} in ZONE)")
        return Rule(condition, label, place, self._limit(condition))

    def _limit(self, condition: Condition) -> Limit:
        sign = self._take_sign(*OPERATORS)
        if not sign:
            raise self.error(self._found(), f"a comparison, one of {' '.join(OPERATORS)}")
        token = self._peek()
        if token is None or token.quoted or not _NUMBER.fullmatch(token.text):
            raise self.error(self._found(), "a number after the comparison, 0 or more and in digits such as 3 or 0.5")
        self._at += 1
        number = float(token.text)
        if condition is Condition.COVERAGE:
            if not self._take_sign("%"):
                raise self.error(self._found(), "a share in percent: coverage(water in floor) > 5%")
            if number > 100:
                raise self.error(f"the coverage is {number:g}%", "0% to 100%")
        elif number > _MOST_COUNT or number != int(number):
            raise self.error(f"the count is {number:g}", f"a whole number up to {_MOST_COUNT}")
        return Limit(sign, number)

    def _until(self, condition: Condition, limit: Limit) -> Limit:
        """The comparison that ends a state; raises `UsageError` for one that may hold where the state begins."""
        until = self._limit(condition)
        step = 1.0 if condition is Condition.COUNT else 1e-6
        edges = [0.0, *(number + by for number in (limit.number, until.number) for by in (-step, 0.0, step))]
        most = _MOST_COUNT if condition is Condition.COUNT else 100.0
        both = [value for value in (*edges, most) if 0 <= value <= most and limit.holds(value) and until.holds(value)]
        if both:
            raise self.error(
                f"at {_plain(both[-1])} the state would begin and end",
                "an `until` that begins where the condition fails",
            )
        return until

    def options(self, rule: Rule) -> Rule:
        """`rule` with what follows its condition."""
        seen: set[str] = set()
        while self._peek() is not None:
            word = self._take_keyword(*_OPTIONS)
            if not word:
                raise self.error(self._found(), "for, gap, cooldown, until or the end")
            if word in seen:
                raise self.error(f"`{word}` stands there twice", "it once")
            seen.add(word)
            if word == "until":
                if rule.limit is None:
                    raise self.error("`until` is for counts and coverages", "it after count(…) or coverage(…)")
                rule = replace(rule, until=self._until(rule.condition, rule.limit))
            elif word == "cooldown":
                rule = replace(rule, cooldown=self._time(word))
            elif word == "gap" and not rule.condition.lasting:
                raise self.error(f"`gap` is for states, not for {rule.condition.value}", "it after in, no, count(…)")
            elif word == "for" and not (rule.condition.lasting or rule.condition is Condition.STAYS):
                raise self.error(f"{rule.condition.value} happens in a moment", "no `for`; use `stays in`")
            elif word == "for":
                rule = replace(rule, seconds=self._time(word))
            else:
                rule = replace(rule, gap=self._time(word))
        return rule

    def _time(self, word: str) -> float:
        token, unit = self._peek(), self._peek(1)
        text = "" if token is None or token.quoted else token.text.lower()
        if _NUMBER.fullmatch(text) and unit is not None and unit.text.lower() in _UNITS:  # 2 s
            text += unit.text.lower()
            self._at += 1
        found = _TIME.fullmatch(text)
        if found is None and re.fullmatch(r"[0-9.]+(ms|s|min|h)", text):
            raise self.error(f"the time after `{word}` is {text[:20]}", "more than none, and a week at most")
        if found is None:
            raise self.error(self._found(), f"a time after `{word}`, such as 500ms, 2s, 5min or 1h")
        self._at += 1
        seconds = round(float(found[1]) * _UNITS[found[2]], 6)
        if not 0 < seconds <= _MOST_SECONDS:
            raise self.error(f"the time after `{word}` is {text}", "more than none, and a week at most")
        return seconds
