"""Without any one of its rules the protocol ends wrong somewhere, and the simulator notices: else it would prove nothing."""

from __future__ import annotations

import pytest

from tests.simulation.rules import RULES, without
from tests.simulation.run import run_seed


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.noticed_by is not None])
def test_a_rule_is_missed(name: str) -> None:
    seed = RULES[name].noticed_by
    assert seed is not None
    with without(name):
        assert run_seed(seed).wrong
    assert not run_seed(seed).wrong
