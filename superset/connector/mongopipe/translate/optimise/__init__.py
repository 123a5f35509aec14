"""Rewrites of plans that keep their meaning: tuples of functions, a file per rule.

`LOWERINGS` (of which the first only saves the others work) leave what the emitter can say: no DISTINCT inside aggregates, no
percentiles, no ranks or frames of peers.
`RULES` make the plan cheaper; without them every answer is the same.
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
    """The plan with all rules applied."""
    for rule in (*LOWERINGS, *RULES):
        plan = rule(plan)
    return plan
