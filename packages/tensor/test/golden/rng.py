"""Writes rng.json: the first numbers of sfc32 seeded through SplitMix32, by unsigned arithmetic on Python integers.

sfc32: Chris Doty-Humphrey, PractRand 0.95 (barrel shift 21, right shift 9, left shift 3, 12 numbers thrown away after seeding).
SplitMix32: increment 0x9e3779b9, finalizer shifts 16, 15, 15 and multipliers 0x21f0aaad, 0x735a2d97 (lowbias32 family, Ettinger).
Run: python3 rng.py > rng.json
"""
import json
from fractions import Fraction

M = 2**32


def splitmix32(state):
    while True:
        state = (state + 0x9E3779B9) % M
        z = state ^ (state >> 16)
        z = z * 0x21F0AAAD % M
        z ^= z >> 15
        z = z * 0x735A2D97 % M
        yield z ^ (z >> 15)


def sfc32(seed):
    words = splitmix32(seed % M)
    a, b, c = next(words), next(words), next(words)
    counter = 1
    n = 0
    while True:
        out = (a + b + counter) % M
        counter = (counter + 1) % M
        a = b ^ (b >> 9)
        b = (c + (c << 3)) % M
        c = ((c << 21 | c >> 11) + out) % M
        n += 1
        if n > 12:
            yield out


def uniform(words):
    high, low = next(words) >> 5, next(words) >> 6
    return float(Fraction(high * 2**26 + low, 2**53))


def below(words, n):
    while True:
        x = next(words)
        if x < M - M % n:
            return x % n


def take(n, f):
    return [f() for _ in range(n)]


out = []
for seed in (0, 1, -1, 42, 2**31, 2**32 + 1):
    w = sfc32(seed)
    u = sfc32(seed)
    b = sfc32(seed)
    big = sfc32(seed)
    out.append(
        {
            "seed": seed,
            "u32": take(8, lambda: next(w)),
            "uniform": take(4, lambda: uniform(u)),
            "below10": take(8, lambda: below(b, 10)),
            "belowBig": take(8, lambda: below(big, 3 * 2**30)),
        }
    )
print(json.dumps(out, indent=1))
