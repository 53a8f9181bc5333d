"""Golden cases of Vespa's interfaces: they run on the stand-in, and unchanged on a real Vespa (VESPA_URL)."""
