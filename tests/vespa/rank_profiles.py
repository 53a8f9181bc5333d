"""Rank profiles with what they inherit put in."""

from __future__ import annotations

from dataclasses import replace

from tests.vespa.expressions import Call, ExpressionError, Number
from tests.vespa.model import RankProfile, Schema

BUILT_IN = {
    "default": RankProfile("default", first_phase=Call("nativeRank", ())),
    "unranked": RankProfile("unranked", first_phase=Number(0.0)),
}


def resolve_profile(schema: Schema, name: str) -> RankProfile | None:
    """The profile *name* of *schema*, or None.

    Raises:
        ExpressionError: what it inherits does not exist, or leads back to it.
    """
    if name not in schema.rank_profiles and name not in BUILT_IN:
        return None
    return _resolved(schema, name, ())


def _resolved(schema: Schema, name: str, heirs: tuple[str, ...]) -> RankProfile:
    profile = schema.rank_profiles.get(name)
    if profile is None or name in heirs:
        if name in BUILT_IN:
            return BUILT_IN[name]
        raise ExpressionError(f"rank-profile '{heirs[-1]}' inherits '{name}', which is not there")
    found = RankProfile(name, first_phase=BUILT_IN["default"].first_phase)
    for parent in profile.inherits:
        found = _merged(found, _resolved(schema, parent, (*heirs, name)))
    return replace(_merged(found, profile), name=name, inherits=profile.inherits)


def _merged(base: RankProfile, profile: RankProfile) -> RankProfile:
    """Put what *profile* says over *base*."""
    given = {
        name: value
        for name in RankProfile.__slots__
        if name not in ("name", "inherits", "inputs", "functions", "constants")
        and (value := getattr(profile, name)) is not None
    }
    return replace(
        base,
        inputs={**base.inputs, **profile.inputs},
        functions={**base.functions, **profile.functions},
        constants={**base.constants, **profile.constants},
        **given,
    )
