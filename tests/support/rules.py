"""Fault rules from their texts."""

from __future__ import annotations

from nvdimmfs.faults.parse import Add, parse_orders
from nvdimmfs.faults.rule import Rule


def parse_rule(text: str) -> Rule:
    """The rule of a text such as `read sys/*/x errno=EIO`."""
    (order,) = parse_orders(f"add {text}")
    assert isinstance(order, Add)
    return order.rule
