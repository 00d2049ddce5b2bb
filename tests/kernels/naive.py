"""Slow, readable NumPy oracles of the kernels, after their docstrings and not their code."""

import math

import numpy as np

L2, COSINE, IP = 0, 1, 2
NULL = np.iinfo(np.int64).min
INTERVALS, KEY_BITS, POSITION_BITS, AND, OR, SKIP_IF_NONE, SKIP_IF_ALL = range(7)


def distances(metric, query, vectors):
    """The distance of every row: float64 sums in index order, rounded to float32."""
    q = query.astype(np.float64)
    x = vectors.astype(np.float64)
    with np.errstate(all="ignore"):
        if metric == L2:
            return np.sqrt(in_order((q - x) ** 2)).astype(np.float32)
        dot = in_order(q * x)
        if metric == IP:
            return (-dot).astype(np.float32)
        squares = in_order(np.broadcast_to(q * q, x.shape)) * in_order(x * x)
        return (1.0 - np.clip(dot / np.sqrt(squares), -1, 1)).astype(np.float32)


def in_order(terms):
    """Sum each row of `terms` from its first to its last term."""
    total = np.zeros(len(terms))
    for j in range(terms.shape[1]):
        total = total + terms[:, j]
    return total


def passes(keys, program):
    """Whether each row passes `program`, a list of conditions that must all hold.

    A condition is (column, [(low, high), ...]), ("bits", column, {codes}) with -1 for NULL,
    ("rows", {rows}), ("and", [conditions]) or ("or", [conditions]).
    """
    n = keys.shape[1]
    match program:
        case list():
            return passes(keys, ("and", program))
        case ("and", parts):
            return np.all([np.ones(n, bool), *(passes(keys, p) for p in parts)], axis=0)
        case ("or", parts):
            return np.any([np.zeros(n, bool), *(passes(keys, p) for p in parts)], axis=0)
        case ("bits", column, codes):
            found = np.isin(keys[column], [c for c in codes if c >= 0])
            return found | ((keys[column] == NULL) & (-1 in codes))
        case ("rows", rows):
            return np.isin(np.arange(n), list(rows))
        case (column, intervals):
            result = np.zeros(n, bool)
            for low, high in intervals:
                result |= (low <= keys[column]) & (keys[column] <= high)
            return result


def program_arrays(program, n=0, *, codes=64, skips=True):
    """`program` as the kernels take it: ops, low, high, bits.

    `n` rows have a bit in a set of rows, `codes` codes one in a set of codes. The operators of a
    condition stand after all its parts, or after each of them with skips before it.
    """
    ops, low, high, bits = [], [], [], []

    def words(members, count):
        begin = len(bits)
        bits.extend(
            sum(1 << (m - first) for m in members if first <= m < first + 64)
            for first in range(0, max(count, 1), 64)
        )
        return [begin, len(bits)]

    def joined(parts, operator, skip):
        pending = []
        for i, part in enumerate(parts):
            if i and skips:
                pending.append(len(ops))
                ops.append([skip, 0, 0, 0])
            emit(part)
            if i and skips:
                ops.append([operator, 0, 0, 0])
        if not skips:
            ops.extend([operator, 0, 0, 0] for _ in parts[1:])
        for at in pending:
            ops[at][2] = len(ops)

    def emit(part):
        match part:
            case ("and", parts):
                joined(parts, AND, SKIP_IF_NONE)
            case ("or", parts):
                joined(parts, OR, SKIP_IF_ALL)
            case ("bits", column, members):
                ops.append([KEY_BITS, column, *words([m + 1 for m in members], codes + 1)])
            case ("rows", rows):
                ops.append([POSITION_BITS, 0, *words(rows, n)])
            case (column, intervals):
                begin = len(low)
                low.extend(a for a, _ in intervals)
                high.extend(b for _, b in intervals)
                ops.append([INTERVALS, column, begin, len(low)])

    emit(("and", program))
    return (
        np.array(ops, np.int64).reshape(-1, 4),
        np.array(low, np.int64),
        np.array(high, np.int64),
        np.array(bits, np.uint64),
    )


def words(flags):
    """One bit a row, in words of 64."""
    padded = np.zeros(-(-len(flags) // 64) * 64, np.uint8)
    padded[: len(flags)] = flags
    return np.packbits(padded, bitorder="little").view(np.uint64)


def zones(keys):
    """The least and the greatest key of each block of 64 rows: (columns, blocks, 2)."""
    columns, n = keys.shape
    out = np.empty((columns, -(-n // 64), 2), np.int64)
    for block in range(out.shape[1]):
        part = keys[:, 64 * block : 64 * block + 64]
        out[:, block, 0], out[:, block, 1] = part.min(axis=1), part.max(axis=1)
    return out


def no_zones(keys):
    return np.empty((len(keys), 0, 2), np.int64)


def no_buckets(keys):
    return np.empty((len(keys), 0), np.uint16), np.empty((0, 0, 2), np.int64)


def in_radius(distance, radius, inclusive):
    """Whether distances lie within the radius; NaN never does, infinity does without one."""
    if radius == np.inf:
        return ~np.isnan(distance)
    return distance <= radius if inclusive else distance < radius


def top(distance, tie, candidates, k):
    """The k nearest of the row numbers `candidates`, ordered by (distance, tie)."""
    order = np.lexsort((tie[candidates], distance[candidates]))
    return candidates[order][:k]


def lists_needed(share, ladder_share, ladder_lists, gamma, global_share):
    return math.exp(np.interp(math.log(share), ladder_share, ladder_lists)) * (
        max(1.0, global_share / share) ** gamma
    )


def probe(distance, good, passing, offsets, order, lower, tie, rule, radius, k):
    """The rows `scan.probe` returns, nearest first, and the lists it visits.

    `passing` rows satisfy the predicate, `good` ones the radius too; `rule` is
    (ladder_share, ladder_lists, gamma, global_share, min_lists).
    """
    ladder_share, ladder_lists, gamma, global_share, min_lists = rule
    best = np.empty(0, np.int64)
    scanned = passed = visited = 0
    for list_, bound in zip(order, lower, strict=True):
        visited += 1
        full = len(best) == k
        if not (bound > radius or (full and bound > distance[best[-1]])):
            rows = np.arange(offsets[list_], offsets[list_ + 1])
            scanned += len(rows)
            passed += int(passing[rows].sum())
            best = top(distance, tie, np.concatenate([best, rows[good[rows]]]), k)
        if len(best) == k and visited >= min_lists:
            if len(ladder_share) == 0:
                break
            share = (passed + 0.5 * global_share) / (scanned + 0.5)
            if visited >= lists_needed(share, ladder_share, ladder_lists, gamma, global_share):
                break
    return best, visited
