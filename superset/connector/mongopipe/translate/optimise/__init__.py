"""Equivalent rewrites of plans: tuples of functions, one file for each rule.

`LOWERINGS` reduce the plan to operators that the emitter supports: no DISTINCT inside aggregates, no percentiles, no ranks, no frames of
peers. The first of them only saves work for the others. `RULES` are optimisations; correctness does not depend on them.
"""

from mongopipe.translate.optimise.distinct_aggregates import distinct_aggregates
from mongopipe.translate.optimise.drop_orders import drop_orders
from mongopipe.translate.optimise.join_behind_group import join_behind_group
from mongopipe.translate.optimise.peers import peers
from mongopipe.translate.optimise.percentiles import percentiles
from mongopipe.translate.optimise.push_filters import push_filters
from mongopipe.translate.optimise.push_limits import push_limits
from mongopipe.translate.optimise.unique_groups import unique_groups
from mongopipe.translate.plans import Plan

LOWERINGS = (unique_groups, percentiles, distinct_aggregates, peers)
RULES = (push_filters, join_behind_group, drop_orders, push_limits)


def optimise(plan: Plan) -> Plan:
    """Applies all rules to the plan."""
    for rule in (*LOWERINGS, *RULES):
        plan = rule(plan)
    return plan
