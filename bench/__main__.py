"""`python -m bench` lists the benchmarks; `python -m bench NAME [--rows N] [--json]` runs one."""

from __future__ import annotations

import argparse
import importlib
import sys
from types import ModuleType

from app.errors import MillraceError
from bench import harness

BENCHES = {
    "append": "bench.append",
    "send": "bench.send",
    "launch": "bench.launch",
    "import": "bench.import_leads",
    "report": "bench.report",
    "compose": "bench.compose",
    "segment": "bench.segment",
    "webhooks": "bench.webhooks",
    "clicks": "bench.clicks",
    "faults": "bench.faults",
    "pace": "bench.pace",
    "plan": "bench.plan",
    "schedule": "bench.schedule",
    "enqueue": "bench.enqueue",
    "api": "bench.api",
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in BENCHES:
        return _list(asked=arguments[0] if arguments else "")
    name = arguments[0]
    module = importlib.import_module(BENCHES[name])
    args = _parser(name, module).parse_args(arguments[1:])
    try:
        answer = module.run(args)
    except MillraceError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    harness.show(name, answer, json=args.json)
    return 1 if answer.broken else 0


def _list(asked: str) -> int:
    for name, path in BENCHES.items():
        module = importlib.import_module(path)
        sizes = " ".join(f"--{size} {default:,}" for size, default in module.SIZES.items())
        print(f"  {name:<8} {_first_line(module)}\n           {sizes}")
    if asked and asked not in ("-h", "--help"):
        print(f"bench: there is no benchmark named {asked!r}.", file=sys.stderr)
        return 2
    return 0


def _parser(name: str, module: ModuleType) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m bench {name}", description=_first_line(module))
    for size, default in module.SIZES.items():
        parser.add_argument(f"--{size}", type=_count, default=default, help=f"how many (default {default:,})")
    parser.add_argument(
        "--edition", choices=("apache", "community"), help="TimescaleDB's edition (default: what is there)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    if hasattr(module, "arguments"):
        module.arguments(parser)
    return parser


def _count(raw: str) -> int:
    value = int(raw.replace("_", "").replace(",", ""))
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _first_line(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().splitlines()[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
