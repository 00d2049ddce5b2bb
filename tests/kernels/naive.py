"""Slow, readable NumPy oracles of the kernels, after their docstrings and not their code."""

import math

import numpy as np

L2, COSINE, IP = 0, 1, 2


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
    """Whether each row passes `program`, a list of (column, [(low, high), ...])."""
    result = np.ones(keys.shape[1], bool)
    for column, intervals in program:
        leaf = np.zeros(keys.shape[1], bool)
        for low, high in intervals:
            leaf |= (low <= keys[column]) & (keys[column] <= high)
        result &= leaf
    return result


def program_arrays(program):
    """`program` as the kernels take it: leaf_column, leaf_start, low, high."""
    sizes = [len(intervals) for _, intervals in program]
    flat = [interval for _, intervals in program for interval in intervals]
    return (
        np.array([column for column, _ in program], np.int64),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.array([low for low, _ in flat], np.int64),
        np.array([high for _, high in flat], np.int64),
    )


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
