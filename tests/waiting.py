"""Waits with an end, and moments of kills that can be repeated."""

import os
import random
import time

SEED = "MRIGEN_TEST_SEED"


def wait_until(condition, seconds=120, pause=0.01):
    """The first value of a condition that is true; fails where none comes in time."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"nothing happened in {seconds} s"
        time.sleep(pause)
    return value


def moments():
    """Random numbers whose seed a failing test shows; MRIGEN_TEST_SEED repeats them."""
    seed = int(os.environ.get(SEED, random.SystemRandom().randrange(1 << 32)))
    print(f"{SEED}={seed}")
    return random.Random(seed)
