"""Named windows are inlined into OVER."""

from sqlglot import exp

from mongopipe.errors import ProgrammingError


def named_windows(query: exp.Query) -> exp.Query:
    """Rewrites `f() OVER w ... WINDOW w AS (...)` to `f() OVER (...)`. Raises ProgrammingError for an unknown window."""
    for select in list(query.find_all(exp.Select)):
        named = {each.this.name: each for each in select.args.get("windows") or ()}
        for node in select.find_all(exp.Window):
            name = node.args.get("alias")
            if name is None or (node.parent is select and node.arg_key == "windows"):
                continue
            if node.find_ancestor(exp.Select) is not select:
                continue
            if name.name not in named:
                raise ProgrammingError(f"no such window: {name.name}; define it in WINDOW")
            for key in ("partition_by", "order", "spec"):
                value = named[name.name].args.get(key)
                if value and not node.args.get(key):
                    node.set(key, [each.copy() for each in value] if isinstance(value, list) else value.copy())
            node.set("alias", None)
        select.set("windows", None)
    return query
