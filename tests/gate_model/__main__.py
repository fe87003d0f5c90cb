"""`make gate`: the state machine for as many steps as are asked for, with its progress, and what it has found."""

import argparse
import random
import sys

from tests.gate_model.machine import TALLY
from tests.gate_model.runner import run_round


def main() -> int:
    """Run rounds until there are enough steps, print what is unsafe or stuck, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.gate_model", description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000, help="the steps to take at least")
    parser.add_argument("--seed", type=int, help="the seed of the first round, to repeat one")
    parser.add_argument("--shrink", action="store_true", help="look for the shortest scenario of what is found")
    asked = parser.parse_args()
    seed = random.randrange(1 << 32) if asked.seed is None else asked.seed  # noqa: S311
    found = {"unsafe": 0, "stuck": 0}
    while TALLY.steps < asked.steps:
        failure = run_round(seed, examples=25, shrink=asked.shrink)
        if failure is not None:
            found[failure.kind] += 1
            print(f"{failure.kind}, seed {seed}: {failure}", flush=True)
        taken = ", ".join(f"{count} {kind}" for kind, count in sorted(TALLY.taken.items()))
        print(
            f"{TALLY.steps} of {asked.steps} steps: {TALLY.looks} looks, {TALLY.refused} refusals, {taken}, "
            f"{TALLY.killed} runs killed, {TALLY.cured} steps cured by hand (seed {seed})",
            flush=True,
        )
        seed += 1
    print(f"gate: {TALLY.steps} steps, {found['unsafe']} unsafe, {found['stuck']} stuck")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
