"""`make gate`: the state machine for as many steps as are asked for, with its progress, and what it has found."""

import argparse
import os
import random
import sys

from tests.gate_model.program import Tally
from tests.gate_model.runner import run_rounds


def main() -> int:
    """Run rounds until there are enough steps, print what is unsafe or stuck, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.gate_model", description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000, help="the steps to take at least")
    parser.add_argument("--seed", type=int, help="the seed of the first round, to repeat one")
    parser.add_argument("--shrink", action="store_true", help="look for the shortest scenario of what is found")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="the rounds to run at a time")
    asked = parser.parse_args()
    first = random.randrange(1 << 32) if asked.seed is None else asked.seed  # noqa: S311
    total, found = Tally(), {"unsafe": 0, "stuck": 0}
    for seed, failure, tally in run_rounds(first, asked.processes, shrink=asked.shrink):
        total.add(tally)
        if failure is not None:
            found[failure.kind] += 1
            print(f"{failure.kind}, seed {seed}: {failure}", flush=True)
        taken = ", ".join(f"{count} {kind}" for kind, count in sorted(total.taken.items()))
        print(
            f"{total.steps} of {asked.steps} steps: {total.looks} looks, {total.refused} refusals, "
            f"{total.waited} runs that waited, {taken}, "
            f"{total.overtaken} steps overtaken, {total.killed} runs killed, {total.cured} steps cured by hand "
            f"(seed {seed})",
            flush=True,
        )
        if total.steps >= asked.steps:
            break
    print(f"gate: {total.steps} steps, {found['unsafe']} unsafe, {found['stuck']} stuck")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
