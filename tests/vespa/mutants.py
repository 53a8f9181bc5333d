"""Ways in which a stand-in may be wrong or too kind, and the golden case that notices each.

Each changes one place of the source. Whoever changes such a place finds out here, for its text must be found exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change of one file, and the case that must fail by it."""

    name: str
    file: str
    old: str
    new: str
    case: str
    """``file::test`` below tests/contract/vespa."""


MUTANTS = (
    Mutant(
        "ignores the continuation",
        "visit_session.py",
        "        return given[3]\n",
        "        return 0\n",
        "test_vespa_visit.py::test_a_visit_gives_every_document_once",
    ),
    Mutant(
        "takes the continuation of another visit",
        "visit_session.py",
        "if not is_list or given[:3] != self._shape or given[3]",
        "if not is_list or given[3]",
        "test_vespa_visit.py::test_a_continuation_of_another_visit_is_refused",
    ),
    Mutant(
        "visits beyond the namespace",
        "visit_session.py",
        "            place.namespace in (None, document_id.namespace)\n            and place",
        "            place",
        "test_vespa_visit.py::test_a_visit_stays_within_its_place",
    ),
    Mutant(
        "decodes a plus as a plus",
        "paths.py",
        "from urllib.parse import unquote_plus\n",
        "from urllib.parse import unquote as unquote_plus\n",
        "test_vespa_documents.py::test_the_path_is_decoded_as_a_form",
    ),
    Mutant(
        "takes dots in a path",
        "paths.py",
        'if any(each in ("", ".", "..") for each in segments):',
        'if any(each in ("",) for each in segments):',
        "test_vespa_documents.py::test_a_path_with_empty_or_dotted_segments_is_refused",
    ),
    Mutant(
        "stores control characters",
        "values.py",
        "    return ord(match[0]) if match else None\n",
        "    return None and match\n",
        "test_vespa_documents.py::test_illegal_text",
    ),
    Mutant(
        "does not find what is removed",
        "documents.py",
        "                self._store.remove(document_id)\n",
        "                if not self._store.remove(document_id):\n                    raise Problem(404, 'none')\n",
        "test_vespa_documents.py::test_the_life_of_a_document",
    ),
    Mutant(
        "writes what is missing, whatever the condition",
        "documents.py",
        "        if document is None and creates:\n",
        "        if document is None:\n",
        "test_vespa_documents.py::test_a_condition_on_a_missing_document",
    ),
    Mutant(
        "ignores conditions",
        "documents.py",
        "not selection.selects(document.id, document.fields)",
        "not (selection and document.fields is not None)",
        "test_vespa_documents.py::test_a_condition_on_a_document",
    ),
    Mutant(
        "creates by every update",
        "documents.py",
        "        if old is not None or creates:\n",
        "        if True:\n",
        "test_vespa_updates.py::test_an_update_of_a_missing_document",
    ),
    Mutant(
        "refuses removals of numbers when full",
        "updates.py",
        'and set(operations) == {"assign"}\n',
        "and not operations\n",
        "test_vespa_faults.py::test_a_full_cluster_takes_removes_and_numbers",
    ),
    Mutant(
        "binds or tighter than and",
        "yql.py",
        "            children.append(self._and())\n        return children[0] if len(children) == 1 else Or(tuple(children))\n",
        "            children.append(self._equality())\n        either = children[0] if len(children) == 1 else Or(tuple(children))\n"
        "        return And((either, self._and())) if self._takes_keyword('and') else either\n",
        "test_vespa_query.py::test_and_binds_tighter_than_or_so_an_alternative_escapes_the_filter",
    ),
    Mutant(
        "reads YQL leniently: a parameter that is not given is empty",
        "lookup.py",
        "            raise YqlError(f\"Input '{name}' is not set\")\n",
        '            return ""\n',
        "test_vespa_query_errors.py::test_yql_that_cannot_be_built",
    ),
    Mutant(
        "looks for the first word of a literal only",
        "terms.py",
        "                    return tuple(words(text))\n",
        "                    return tuple(words(text))[:1]\n",
        "test_vespa_query.py::test_a_literal_of_several_words_is_a_phrase",
    ),
    Mutant(
        "compares identifiers without case",
        "leaves.py",
        "frozenset(whole(text, is_cased=is_cased) for text in texts)",
        "frozenset(whole(text, is_cased=is_cased and False) for text in texts)",
        "test_vespa_query.py::test_identifiers_that_are_cased_are_compared_exactly",
    ),
    Mutant(
        "takes any number of hits",
        "query_parameters.py",
        "        if hits > self.profile.hits_max:\n",
        "        if hits > 10 * self.profile.hits_max:\n",
        "test_vespa_query_errors.py::test_parameters_that_are_refused",
    ),
    Mutant(
        "calls every error a success when there are hits",
        "query_errors.py",
        "    for code in codes:\n        if code in _ALWAYS:\n",
        "    for code in codes if not has_filled_hits else ():\n        if code in _ALWAYS:\n",
        "test_vespa_query_errors.py::test_the_status_of_errors_from_below",
    ),
    Mutant(
        "fuses by scores instead of ranks",
        "ranking.py",
        "    return {number: 1.0 / (k + 1.0 + at) for at, number in enumerate(ordered)}\n",
        "    return {number: values[number] / k for number in ordered}\n",
        "test_vespa_query.py::test_words_and_vectors_are_fused",
    ),
    Mutant(
        "leaves out the conditions that stand beside others",
        "matching.py",
        "                    within = self.match(child, within)\n                return within\n",
        "                    within = self.match(child, within)\n                    break\n                return within\n",
        "test_vespa_query.py::test_and_binds_tighter_than_or_so_an_alternative_escapes_the_filter",
    ),
    Mutant(
        "changes dimensions without an override",
        "changes.py",
        '        found["field-type-change"] += _schema_changes(before, after)[1]\n',
        "        _schema_changes(before, after)\n",
        "test_vespa_deploy.py::test_a_change_of_dimension_needs_an_override",
    ),
    Mutant(
        "has converged at once",
        "convergence.py",
        '    content["converged"] = lowest >= wanted\n    return content\n',
        '    content["converged"] = True\n    return content\n',
        "test_vespa_deploy.py::test_services_that_take_the_generation_late_or_never",
    ),
    Mutant(
        "says that it is active when it is not",
        "deploy.py",
        '"activated": fault is None,',
        '"activated": True,',
        "test_vespa_deploy.py::test_an_activation_that_fails_with_200",
    ),
)
