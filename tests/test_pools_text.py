"""The text of an accounts' file: an edit is that edit, whatever the file looks like."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.config.pools_text import PoolsText, chosen
from aiclient2api.errors import ConfigurationError, InvalidRequest
from tests.tape import cases


class ChosenTests(SynchronousTestCase):
    """Which account is meant."""

    ACCOUNTS = [("1234abcd", "one"), ("1234efgh", "two"), ("0003xxxx", "two"), ("", None)]

    def test_by_whatever_is_known_of_it(self) -> None:
        """Its uuid, its name, the beginning of its uuid, its place."""
        for which, at in (("1234abcd", 0), ("one", 0), ("1234E", 1), ("3", 3), ("0003", 2)):
            self.assertEqual(chosen(which, self.ACCOUNTS, "p"), at, which)

    def test_none_or_several(self) -> None:
        """Both are refused, with what to write."""
        for which, word in (
            ("1234", "2 accounts of p"),
            ("two", "2 accounts of p"),
            ("123", "no account"),
            ("4", "no account"),
            ("", "no account"),
        ):
            error = self.assertRaises(InvalidRequest, chosen, which, self.ACCOUNTS, "p")
            self.assertIn(word, str(error))
            self.assertIn("uuid", str(error))
        self.assertRaises(InvalidRequest, chosen, "3", self.ACCOUNTS, "p", numbered=False)

    def test_a_key_is_not_repeated(self) -> None:
        """It may have been pasted by mistake."""
        error = self.assertRaises(InvalidRequest, chosen, "sk-secret", self.ACCOUNTS, "p")
        self.assertNotIn("secret", str(error))


_SPACES = st.sampled_from(["", "", " ", "\n", "\n  ", "\t", "\r\n    ", "  \n"])
_KEYS = st.sampled_from(["uuid", "customName", "is_disabled", "OPENAI_API_KEY", "x", "_comment"])
_SCALARS = st.one_of(
    st.sampled_from(["null", "true", "1.10", "-0", "1e400", '"\\ud83d"', '"\\u0041\\"]}"']),
    st.integers().map(json.dumps),
    st.text(max_size=5).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.text(max_size=5).map(json.dumps),
)


def joined(brackets: str, items: list[str], spaces: list[str]) -> str:
    """Return items between brackets, with the white space at hand around each."""
    at = iter(spaces * (2 * len(items) + 2))
    inner = ",".join(f"{next(at)}{item}{next(at)}" for item in items)
    return f"{brackets[0]}{inner or next(at)}{brackets[1]}"


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    """Any JSON value, oddly set."""
    if depth == 0 or draw(st.booleans()):
        return draw(_SCALARS)
    spaces = draw(st.lists(_SPACES, min_size=1, max_size=5))
    items = draw(st.lists(values(depth=depth - 1), max_size=3))
    if draw(st.booleans()):
        return joined("[]", items, spaces)
    return joined("{}", [f'"k{n}":{item}' for n, item in enumerate(items)], spaces)


@st.composite
def objects(draw: st.DrawFn, keys: st.SearchStrategy[str], inner: st.SearchStrategy[str]) -> str:
    """An object of such keys, oddly set."""
    spaces = draw(st.lists(_SPACES, min_size=1, max_size=5))
    members = []
    for key in draw(st.lists(keys, max_size=5, unique_by=lambda key: key.replace("_", ""))):
        members.append(f"{json.dumps(key)}{draw(_SPACES)}:{draw(_SPACES)}{draw(inner)}")
    return joined("{}", members, spaces)


_ENTRIES = st.lists(st.one_of(objects(_KEYS, values()), values(depth=1)), max_size=4)
_LISTS = st.builds(joined, st.just("[]"), _ENTRIES, st.lists(_SPACES, min_size=1, max_size=5))
_POOLS = st.builds(
    "".join,
    st.tuples(
        _SPACES,
        objects(
            st.sampled_from(["p", "q", "openai-custom", "_comment"]),
            st.one_of(_LISTS, _LISTS, values(depth=1)),
        ),
        _SPACES,
    ),
)
"""Files of accounts, such as nobody would write them."""


def decoded(text: str) -> Any:
    """Decode so that every number is told from every other."""
    return json.loads(text, parse_float=lambda digits: ("float", digits))


def around(before: str, after: str) -> tuple[int, int]:
    """Return how much two texts have in common at their beginning and at their end."""
    raw, new = before.encode(), after.encode()
    most = min(len(raw), len(new))
    start = next((n for n in range(most) if raw[n] != new[n]), most)
    room = most - start
    end = next((n for n in range(room) if raw[-1 - n] != new[-1 - n]), room)
    return start, end


class PropertyTests(SynchronousTestCase):
    """Whatever the file looks like, an edit is that edit and nothing else."""

    def edited(self, text: str, edit: Callable[[PoolsText], PoolsText]) -> str | None:
        """Return the text after an edit; None if it was refused."""
        try:
            return edit(PoolsText.of(text.encode(), "f")).content.decode()
        except (ConfigurationError, InvalidRequest):
            return None

    @cases(200)
    @given(text=_POOLS, provider=st.sampled_from(["p", "q", "new"]))
    def test_added(self, text: str, provider: str) -> None:
        """The list is longer by the account; every byte of before is still there."""
        entry = {"uuid": "u", "X_KEY": 'q"ü', "list": [1, {"a": None}]}
        after = self.edited(text, lambda pools: pools.added(provider, entry))
        before = decoded(text)
        there = before.get(provider)
        if there is not None and not isinstance(there, list):
            self.assertIsNone(after)
            return
        assert after is not None
        new = decoded(after)
        added = new[provider].pop()
        self.assertEqual(list(added.values()), list(entry.values()))
        self.assertEqual(new[provider], there or [])
        self.assertEqual(list(new), list(before) if provider in before else [*before, provider])
        self.assertEqual({**new, provider: there or []}, {**before, provider: there or []})
        start, end = around(text, after)
        if there:
            self.assertEqual(start + end, len(text.encode()))

    @cases(200)
    @given(
        text=_POOLS,
        index=st.integers(0, 3),
        key=_KEYS,
        value=st.one_of(st.none(), st.booleans(), st.text(max_size=3), st.lists(st.integers())),
    )
    def test_changed(self, text: str, index: int, key: str, value: Any) -> None:
        """One key is another, is new or is gone, and no byte outside the account moved."""
        listed = decoded(text).get("p")
        if not isinstance(listed, list) or index >= len(listed):
            return
        after = self.edited(text, lambda pools: pools.changed("p", index, {key: value}))
        if not isinstance(listed[index], dict):
            self.assertIsNone(after)
            return
        assert after is not None
        wanted = decoded(text)
        if value is None:
            wanted["p"][index].pop(key, None)
        else:
            found = [k for k in decoded(after)["p"][index] if k not in wanted["p"][index]]
            wanted["p"][index][found[0] if found else key] = value
        self.assertEqual(decoded(after), wanted)
        self.assertEqual(list(decoded(after)["p"][index]), list(wanted["p"][index]))
        outer = PoolsText.of(text.encode(), "f")
        first, last = outer._accounts("p")[index]
        raw, new = text.encode(), after.encode()
        self.assertEqual(raw[:first], new[:first])
        self.assertTrue(new.endswith(raw[last:]))

    @cases(200)
    @given(text=_POOLS, index=st.integers(0, 3))
    def test_removed(self, text: str, index: int) -> None:
        """The list is shorter by the account, and what is left is what was there."""
        listed = decoded(text).get("p")
        if not isinstance(listed, list) or index >= len(listed):
            return
        after = self.edited(text, lambda pools: pools.removed("p", index))
        assert after is not None
        wanted = decoded(text)
        del wanted["p"][index]
        self.assertEqual(decoded(after), wanted)
        start, end = around(text, after)
        self.assertEqual(start + end, len(after.encode()))
