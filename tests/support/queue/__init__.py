"""The queue under faults, on real processes.

::

    hatchery ▸ process   forks workers from one process that has imported everything already
    node, enqueuer       what those processes run: workers with the tasks of `kinds`, and callers that enqueue
    rig, nemesis         the test's side: what it starts, stops, cuts off, and the seeded plan of faults
    history ▸ checks     what every process wrote down, and the rules that it is held against
    scenarios, mutants   faults that several tests share, and the bugs that the rules must find
    memory               a ledger on Trio's clock, for hours that pass in a moment
"""
