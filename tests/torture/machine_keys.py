"""Machine files with any of the keys that the schema knows: most values are of the right type, few fit together."""

from __future__ import annotations

import json
import random
from typing import Any

from nvdimmfs.machine_file.schema import schema

_DEFINITIONS = schema()["definitions"]
_REFERENCE = "#/definitions/"

_NUMBERS = (0, 1, 2, 5, 63, 255, 4096, 65536, 16 << 20, 1 << 30, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, -1)
_TEXTS = ("", "0", "-1", "4K", "64M", "128M", "1G", "0xffffffffffffffff", "99999999999999999999", "x", "\n", "..")
_OTHERS = (True, 1.5, float("nan"), float("inf"), [], {}, [[]], ["x"])

#: Values that fit more often than those that the schema allows.
_LIKELY: dict[str, tuple[object, ...]] = {
    "handle": (1, 2, 3),
    "numa_node": (0, 1, 2),
    "target_node": (0, 1, 5),
    "size": ("64M", "128M", "1G"),
    "ram": ("2G", "4G"),
    "kernel": ("6.1",),
    "start": ("4G", "8G", "1M", 0),
    "file": ("absent.bin",),
}


def random_keys(chance: random.Random) -> str:
    """The text of a machine file."""
    machine = _table(chance, "Machine", chance.choice((0.1, 0.2, 0.4)))
    if chance.random() < 0.5:
        machine |= _consistent(chance)
    return "".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in machine.items())


def _consistent(chance: random.Random) -> dict[str, Any]:
    """RAM, distances and a bus that may fit together."""
    nodes = chance.randint(1, 3)
    distance = chance.choice((11, 20, 254))
    dimms = [{"handle": number} | _table(chance, "Dimm", 0.05) for number in range(chance.randint(0, 3))]
    for dimm in dimms:
        dimm |= {key: _table(chance, key.title(), 0.4) for key in ("health", "firmware") if chance.random() < 0.5}
    ranges = [{"size": "64M", "numa_node": chance.randrange(nodes)} for _ in range(chance.randint(0, 2))]
    return {
        "ram_range": [{"size": "1G", "numa_node": node} for node in range(nodes)],
        "distances": [[10 if row == column else distance for column in range(nodes)] for row in range(nodes)],
        "bus": [{"platform": chance.choice(("nfit", "virtio-pmem", "device-tree")), "dimm": dimms, "range": ranges}],
    }


def _table(chance: random.Random, name: str, share: float) -> dict[str, Any]:
    """A table with its required keys, and a share of the others."""
    definition = _DEFINITIONS[name]
    definition = next((each for each in definition.get("anyOf", ()) if "properties" in each), definition)
    wanted = definition.get("required", ())
    keys = definition.get("properties", {})
    return {key: _value(chance, key, keys[key], share) for key in keys if key in wanted or chance.random() < share}


def _value(chance: random.Random, key: str, wanted: dict[str, Any], share: float) -> Any:  # TOML
    if chance.random() < 0.02:
        return chance.choice((*_NUMBERS, *_TEXTS, *_OTHERS))
    if key in _LIKELY and chance.random() < 0.7:
        return chance.choice(_LIKELY[key])
    for several in ("anyOf", "oneOf", "allOf"):
        if several in wanted:
            return _value(chance, "", chance.choice(wanted[several]), share)
    if "$ref" in wanted:
        return _table(chance, wanted["$ref"].removeprefix(_REFERENCE), share)
    if "enum" in wanted:
        return chance.choice(wanted["enum"])
    return _of_type(chance, wanted, share)


def _of_type(chance: random.Random, wanted: dict[str, Any], share: float) -> Any:  # TOML
    match wanted.get("type"):
        case "array":
            return [_value(chance, "", wanted.get("items", {}), share) for _ in range(chance.randint(0, 3))]
        case "boolean":
            return chance.random() < 0.5
        case "integer":
            least, most = wanted.get("minimum", 0), wanted.get("maximum", 1 << 62)
            return chance.choice(
                (least, chance.randint(least, most), *(chance.randint(least, min(most, 99)) for _ in range(6)))
            )
        case "string":
            return chance.choice(_TEXTS)
    return chance.choice(_NUMBERS)


def _toml(value: object) -> str:
    """A value as TOML."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(key)} = {_toml(each)}' for key, each in value.items())} }}"
    return repr(value) if isinstance(value, float) else json.dumps(value)
