"""Leases for Trio programs: who may act, until when, and how the others can tell.

Importing this package needs nothing but Trio. What talks to PostgreSQL is in `lockd.postgres` and needs psycopg.
"""
