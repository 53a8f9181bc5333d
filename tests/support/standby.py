"""A streaming standby of a test's PostgreSQL server."""

from __future__ import annotations

import shutil
import subprocess
import time

from tests.support.postgres import HBA, PostgresServer, Room, run_as

REPLICATING_HBA = (*HBA, "local replication all trust")
"""What the primary's pg_hba.conf must have."""

WAIT_SECONDS = 20


def make_standby(room: Room, primary: PostgresServer) -> PostgresServer:
    """Copy the running *primary* with pg_basebackup; the caller starts and stops the standby."""
    standby = PostgresServer(room, hba=REPLICATING_HBA)
    shutil.rmtree(standby.data_dir)
    command = [standby.bin_dir / "pg_basebackup", "--pgdata", standby.data_dir]
    command += ["--host", primary.socket_dir, "--port", primary.port, "--username", "postgres"]
    command += ["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--wal-method=stream"]
    done = subprocess.run(
        [str(word) for word in command],
        cwd="/",
        capture_output=True,
        check=False,
        **run_as(standby.account),
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    standby.configure(hot_standby=True)
    return standby


def wait_replayed(primary: PostgresServer, standby: PostgresServer) -> None:
    """Wait until the standby shows everything that the primary has committed so far."""
    [[lsn]] = primary.execute("SELECT pg_current_wal_flush_lsn()::text")
    _wait(standby, f"SELECT coalesce(pg_last_wal_replay_lsn() >= '{lsn}', false)")


def cut(standby: PostgresServer) -> None:
    """Let the standby receive nothing any more."""
    standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
    standby.execute("SELECT pg_reload_conf()")
    _wait(standby, "SELECT count(*) = 0 FROM pg_stat_wal_receiver")


def promote(standby: PostgresServer) -> None:
    """Make the standby a primary, on a timeline of its own."""
    assert standby.execute("SELECT pg_promote(true, 20)") == [(True,)]


def _wait(server: PostgresServer, condition: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while server.execute(condition) != [(True,)]:
        assert time.monotonic() < deadline, f"never true: {condition}"
        time.sleep(0.02)
