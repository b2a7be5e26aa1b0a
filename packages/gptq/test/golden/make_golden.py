"""Golden vectors for GPTQ: a float32 restatement of the reference algorithm (IST-DASLab/gptq, gptq.py and quant.py) in numpy.

Run: python make_golden.py > golden.json      (needs numpy; tests need only golden.json)

Inputs come from a linear congruential generator that any language can repeat: s <- (1664525 s + 1013904223) mod 2**32, u = s / 2**32.
`fresh` cases fit a group's scale to the weights as they are when the sweep reaches the group; all others follow the reference, which takes
them from the matrix as it was when the block began.

`alpha` cases are GPTAQ: the published code (ModelCloud/GPTQModel, gptaq.py) hands on w inside a block and q between blocks. `fresh` ones hand on
w everywhere, column by column without blocks, and fit a group's scale to what the sweep will meet if the group itself makes no error.

`trits` cases have maxq -1: the scale is the positive value, the zero point the negative one.
"""
import json
import numpy as np

f32 = np.float32
ROWS, COLS, TOKENS, SEQUENCES, SEED, DEAD = 16, 192, 512, 4, 12345, 7


class Lcg:
    def __init__(self, seed):
        self.s = seed

    def u(self):
        self.s = (1664525 * self.s + 1013904223) % 2**32
        return self.s / 2**32

    def bell(self):
        return self.u() + self.u() + self.u() + self.u() - 2


def inputs():
    g = Lcg(SEED)
    w = np.zeros((ROWS, COLS))
    for r in range(ROWS):
        for c in range(COLS):
            w[r, c] = g.bell() * (3 if c == DEAD else 1)
    gain = [0.25 + 2 * g.u() ** 2 for _ in range(COLS)]
    x = np.zeros((TOKENS, COLS))
    for t in range(TOKENS):
        carry = 0.0
        for c in range(COLS):
            carry = 0.7 * carry + g.bell()
            x[t, c] = 0 if c == DEAD else gain[c] * carry
    far = x.copy()
    for t in range(TOKENS):
        shift = g.bell()
        for c in range(COLS):
            far[t, c] += gain[c] * (0.3 * shift + 0.2 * g.bell())
    x = x.astype(f32).astype(np.float64)
    far = far.astype(f32).astype(np.float64)
    h = (x.T @ x) * (2 / SEQUENCES)
    cross = ((far - x).T @ x) * (2 / SEQUENCES)
    return w.astype(f32), h.astype(f32), cross.astype(f32)


def quantize(x, scale, zero, maxq):
    return np.clip(np.rint(x / scale) + zero, 0, maxq).astype(f32)


def find_params(x, bits, sym, mse, trits=False):
    maxq = f32(2**bits - 1)
    xmin = np.minimum(x.min(1), 0).astype(f32)
    xmax = np.maximum(x.max(1), 0).astype(f32)
    if sym:
        xmax = np.maximum(np.abs(xmin), xmax)
        xmin = np.where(xmin < 0, -xmax, xmin)
    empty = (xmin == 0) & (xmax == 0)
    xmin[empty], xmax[empty] = -1, 1
    if trits:
        return xmax, xmin
    scale = ((xmax - xmin) / maxq).astype(f32)
    zero = np.full_like(scale, (maxq + 1) / 2) if sym else np.rint(-xmin / scale).astype(f32)
    if mse:
        best = np.full(x.shape[0], np.inf, f32)
        for i in range(80):
            p = f32(1 - i / 100)
            lo, hi = p * xmin, p * xmax
            s1 = ((hi - lo) / maxq).astype(f32)
            z1 = zero if sym else np.rint(-lo / s1).astype(f32)
            q = s1[:, None] * (quantize(x, s1[:, None], z1[:, None], maxq) - z1[:, None])
            err = (np.abs(q - x) ** f32(2.4)).sum(1)
            win = err < best
            best[win], scale[win] = err[win], s1[win]
            if not sym:
                zero[win] = z1[win]
    return scale, zero


def group_aware(d, group):
    inner = [g * group + np.argsort(-d[g * group:(g + 1) * group], kind="stable") for g in range(len(d) // group)]
    outer = np.argsort([-d[i[0]] for i in inner], kind="stable")
    return np.concatenate([inner[g] for g in outer])


def gptq(w, h, cross, bits, sym=False, group=-1, act_order=False, gar=False, static=False, mse=False, fresh=False, alpha=0.0, trits=False, block=128, damp=0.01):
    w, h, cross = w.copy(), h.copy(), cross.copy()
    rows, cols = w.shape
    maxq = f32(2**bits - 1)
    groups = 1 if group == -1 else cols // group
    scales, zeros = np.zeros((rows, groups), f32), np.zeros((rows, groups), f32)
    if group == -1:
        scales[:, 0], zeros[:, 0] = find_params(w, bits, sym, mse, trits)
    dead = np.diag(h) == 0
    h[dead, dead] = 1
    w[:, dead] = 0
    cross[:, dead] = 0
    if static:
        for k in range(groups):
            scales[:, k], zeros[:, k] = find_params(w[:, k * group:(k + 1) * group], bits, sym, mse, trits)
    perm = np.argsort(-np.diag(h), kind="stable") if act_order else np.arange(cols)
    if gar:
        perm = group_aware(np.diag(h), group)
    w, h, cross = w[:, perm], h[perm][:, perm], cross[perm][:, perm]
    h[np.arange(cols), np.arange(cols)] += f32(damp) * np.mean(np.diag(h))
    lower = np.linalg.inv(np.linalg.cholesky(h))
    u = np.linalg.cholesky(lower.T @ lower).T.astype(f32)
    p = (f32(alpha) * np.triu(cross @ u.T, 1) @ u).astype(f32)
    if alpha and fresh:
        block = cols
    codes = np.zeros((rows, cols), int)
    index = np.zeros(cols, int)
    loss = 0.0
    for b0 in range(0, cols, block):
        b1 = min(b0 + block, cols)
        w1, u1 = w[:, b0:b1].copy(), u[b0:b1, b0:b1]
        err = np.zeros_like(w1)
        for i in range(b1 - b0):
            c = b0 + i
            k = 0 if group == -1 else (perm[c] if static or gar else c) // group
            if group != -1 and not static and c % group == 0:
                met = w1[:, i:i + group].copy()
                for j in range(group if alpha and fresh else 0):
                    met[:, j] += met[:, :j] @ p[c:c + j, c + j]
                source = met if alpha and fresh else np.concatenate([w1[:, i:], w[:, b1:]], 1)[:, :group] if fresh else w[:, c:c + group]
                scales[:, k], zeros[:, k] = find_params(source, bits, sym, mse, trits)
            s, z, d = scales[:, k], zeros[:, k], u1[i, i]
            if trits:
                code = np.where(w1[:, i] > s / 2, 2, np.where(w1[:, i] < z / 2, 1, 0))
                q = np.choose(code, [np.zeros_like(s), z, s])
            else:
                code = quantize(w1[:, i], s, z, maxq)
                q = s * (code - z)
            loss += float((((w1[:, i] - q) ** 2) / d**2).sum()) / 2
            e = (w1[:, i] - q) / d
            w1[:, i:] -= (np.outer(e, u1[i, i:]) - np.outer(w1[:, i], p[c, c:b1])).astype(f32)
            err[:, i] = e
            codes[:, perm[c]] = code
            index[perm[c]] = k
        w[:, b1:] -= err @ u[b0:b1, b1:] - w1 @ p[b0:b1, b1:]
    return codes, scales, zeros, index, loss


CASES = [
    dict(bits=4),
    dict(bits=3, sym=True),
    dict(bits=3, mse=True),
    dict(bits=4, group=32),
    dict(bits=4, group=32, fresh=True),
    dict(bits=4, group=32, sym=True),
    dict(bits=3, group=96),
    dict(bits=4, group=32, act_order=True),
    dict(bits=4, group=32, act_order=True, fresh=True),
    dict(bits=4, group=32, static=True),
    dict(bits=3, group=32, static=True, act_order=True, sym=True),
    dict(bits=2, group=32, mse=True),
    dict(bits=3, act_order=True),
    dict(bits=4, group=32, gar=True),
    dict(bits=3, group=32, gar=True, fresh=True, sym=True),
    dict(bits=3, group=32, gar=True, static=True),
    dict(bits=4, alpha=0.25),
    dict(bits=3, alpha=0.25, fresh=True),
    dict(bits=3, alpha=1.0, fresh=True, act_order=True),
    dict(bits=4, group=32, alpha=0.25),
    dict(bits=3, group=32, alpha=1.0, act_order=True),
    dict(bits=4, group=32, alpha=0.25, fresh=True),
    dict(bits=3, group=32, alpha=1.0, fresh=True, gar=True),
    dict(bits=3, group=32, alpha=0.5, static=True, act_order=True, sym=True),
]

TRITS = [
    dict(bits=2, trits=True),
    dict(bits=2, trits=True, sym=True, act_order=True),
    dict(bits=2, trits=True, group=32),
    dict(bits=2, trits=True, group=32, fresh=True, act_order=True),
    dict(bits=2, trits=True, group=32, fresh=True, sym=True, gar=True),
    dict(bits=2, trits=True, group=32, sym=True, static=True, act_order=True),
]

if __name__ == "__main__":
    w, h, cross = inputs()
    out = []
    for options in CASES + TRITS:
        codes, scales, zeros, index, loss = gptq(w, h, cross, **options)
        out.append(dict(
            options=options,
            codes="".join(format(c, "x") for c in codes.ravel()),
            scales=[float(f"{v:.8g}") for v in scales.ravel()],
            zeros=[float(f"{v:.8g}") if "trits" in options else int(v) for v in zeros.ravel()],
            index=[int(v) for v in index],
            loss=float(f"{loss:.8g}"),
        ))
    header = dict(rows=ROWS, cols=COLS, tokens=TOKENS, sequences=SEQUENCES, seed=SEED, dead=DEAD, trace=float(f"{np.trace(h.astype(np.float64)):.8g}"), cross=float(f"{np.abs(cross.astype(np.float64)).sum():.8g}"))
    print(json.dumps(dict(**header, cases=out[:len(CASES)], trits=out[len(CASES):]), separators=(",", ":")))
