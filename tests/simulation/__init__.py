"""Leases simulated: several nodes, two servers and a bad network in one Trio loop, and a checker of what happened.

One seed makes one run: the faults, the delays, the order of Trio's tasks. `python -m tests.simulation --seed 7
--trace` tells that run's story. The invariants are those of the lease's design: I1 to I7, I12 and I13.

::

    run ── world ──┬── node ── process ── hold/lead, body        history ──▶ checks
                   ├── network (delays, loses, doubles, cuts)      ▲
                   ├── lease server (forgets, jumps)               │ everything that happens, with its true time
                   └── database (fence, slots, failover) ──────────┘
"""
