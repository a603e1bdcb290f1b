"""Counter-based randomness: numbers that are functions of what they are for, with no state in between.

A sample therefore does not depend on what else is in the batch, on arrival order or on preemption (the idea
of Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; the mixing function is SplitMix64's,
Steele et al. 2014).
"""

_MASK = (1 << 64) - 1


def uniform(seed: int, sample_index: int, position: int) -> float:
    """A number in [0, 1) that depends on its three arguments and nothing else."""
    state = seed
    for word in (sample_index, position):
        state = _mix((state + 0x9E3779B97F4A7C15 * (word + 1)) & _MASK)
    return (state >> 11) * 2.0**-53


def _mix(state: int) -> int:
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return state ^ (state >> 31)
