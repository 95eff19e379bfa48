"""`python -m proofs [NAME ...]`: runs experiments, writes `results/<name>.json`, fails if one of them does.

An experiment is a module of this package with `NAME` and `def run(profile, seed) -> Result`. Its first line of
documentation is what `--list` shows. `--record` keeps the result in `proofs/recorded`, of which `docs/proofs` is made.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import pkgutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import proofs
from proofs import pages
from proofs.results import FULL, QUICK, Profile, Result


def experiments() -> dict[str, ModuleType]:
    """Every experiment by its name."""
    names = [found.name for found in pkgutil.iter_modules(proofs.__path__) if not found.name.startswith("_")]
    modules = [importlib.import_module(f"proofs.{name}") for name in names]
    return {module.NAME: module for module in modules if hasattr(module, "NAME")}


def main(words: Sequence[str] | None = None) -> int:
    """Run what was asked for; 0 if everything was proved, 1 if not, 2 for wrong words."""
    found = experiments()
    parser = argparse.ArgumentParser(prog="python -m proofs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(found)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="few units for each cell")
    parser.add_argument("--units", type=int, help="units for each cell, instead of the profile's")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="cells whose label has TEXT")
    parser.add_argument(
        "--resume", type=Path, metavar="FOLDER", help="keep each cell there, and run none that is there"
    )
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="FOLDER")
    parser.add_argument("--list", action="store_true", help="name the experiments and end")
    parser.add_argument("--record", action="store_true", help="keep what comes of it for the documentation's pages")
    parser.add_argument("--pages", action="store_true", help="make the documentation's pages anew and end")
    args = parser.parse_args(words)
    unknown = set(args.names) - found.keys()
    if unknown:
        parser.error(f"no experiment is called {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    if args.list:
        for name, module in found.items():
            print(f"{name:<12} {(module.__doc__ or '').partition(chr(10))[0]}")
        return 0
    if args.pages:
        print("\n".join(str(path) for path in pages.write(found)))
        return 0
    profile = dataclasses.replace(QUICK if args.quick else FULL, only=tuple(args.only), kept=args.resume)
    if args.units:
        profile = dataclasses.replace(profile, units=args.units)
    out = pages.RECORDED if args.record else args.out
    results = [run(found[name], profile, args.seed, out) for name in args.names or found]
    if args.record:
        pages.write(found)
    return 0 if all(result.passed for result in results) else 1


def run(module: ModuleType, profile: Profile, seed: int, out: Path) -> Result:
    """Run one experiment and write down what came of it."""
    began = time.monotonic()
    print(f"== {module.NAME}: {profile.name}, seed {seed}", flush=True)
    result: Result = module.run(profile, seed)
    seconds = time.monotonic() - began
    path = result.write(out, seconds)
    verdict = "passed" if result.passed else "FAILED"
    print(f"== {module.NAME}: {verdict} after {seconds:.0f} s; {result.why}; see {path}", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
