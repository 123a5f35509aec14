"""Dashboards as files: `python -m tidemark.superset.transfer import|export`, in Superset's environment, over its API.

*Import* loads the files of assets/ into a running Superset. Assets that a person has changed there since the last import are kept and
listed, unless `--overwrite` is given; assets without a file are never changed. *Export* writes the current assets to the files.

Environment: SUPERSET_URL, SUPERSET_PASSWORD (of `admin`), SUPERSET_MONGODB_URL, SUPERSET_QUERY_SECONDS, and SUPERSET_HOME, which stores
what was imported.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import requests
import yaml

from tidemark.superset.client import Client, SupersetError

ASSETS = Path(__file__).parents[2] / "assets"
KINDS = ("databases", "datasets", "charts", "dashboards")
QUERY_SECONDS = 60  # limit of a query, below that of a request
MONGODB_IN_FILES = "mongopipe://127.0.0.1:27017/tidemark"  # placeholder in the files for the environment's address

Content = dict[str, Any]


class Asset(NamedTuple):
    """A database, dataset, chart or dashboard: the path of its file relative to the assets folder, and its content."""

    path: str
    content: Content

    @property
    def uuid(self) -> str:
        return str(self.content["uuid"])

    @property
    def name(self) -> str:
        named_by = ("dashboard_title", "slice_name", "table_name", "database_name")
        return f"{self.path.partition('/')[0].removesuffix('s')} {next(self.content[key] for key in named_by if key in self.content)}"

    def digest(self) -> str:
        """A digest that ignores the ids a Superset assigns. For a database it covers the name only, because exports mask the password."""
        return _digest({"database_name": self.content["database_name"]} if "database_name" in self.content else portable(self.content))

    def source(self) -> str:
        """A digest of the whole content of the file, with the environment's address."""
        return _digest(self.content)


def _digest(content: Content) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


class Memory:
    """What was imported, by uuid: the digest of the file, and the digest of the resulting asset in Superset."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[str]] = json.loads(path.read_text()) if path.exists() else {}

    def changed_in_superset(self, there: Asset) -> bool:
        """Has the asset changed in Superset since the import? One that was never imported counts as changed."""
        return self._known.get(there.uuid, ["", ""])[1] != there.digest()

    def changed_in_files(self, here: Asset) -> bool:
        return self._known.get(here.uuid, ["", ""])[0] != here.source()

    def keep(self, here: Mapping[str, Asset], there: Mapping[str, Asset]) -> None:
        self._known |= {uuid: [here[uuid].source(), there[uuid].digest()] for uuid in here.keys() & there.keys()}
        unfinished = self._path.with_suffix(".part")
        unfinished.write_text(json.dumps(self._known, indent=1))
        unfinished.rename(self._path)


class Superset:
    """The assets of a running Superset."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def assets(self) -> dict[str, Asset]:
        """All assets by uuid."""
        return {asset.uuid: asset for asset in _unzipped(self._client.get("/assets/export/").content)}

    def import_assets(self, assets: Iterable[Asset]) -> None:
        """Imports assets, overwriting existing ones."""
        self._client.post("/assets/import/", files={"bundle": ("assets.zip", _zipped(assets), "application/zip")})


def import_assets(superset: Superset, memory: Memory, shipped: Mapping[str, Asset], *, overwrite: bool) -> Iterator[str]:
    """Imports assets whose files have changed; yields a line for each asset imported or kept."""
    there = superset.assets()
    differing = {uuid for uuid, asset in shipped.items() if uuid in there and there[uuid].digest() != asset.digest()}
    kept = {uuid for uuid in differing if memory.changed_in_superset(there[uuid]) and not overwrite}
    hidden = {uuid for uuid, asset in shipped.items() if "sqlalchemy_uri" in asset.content}  # exports mask their passwords
    changed = {uuid for uuid in differing | hidden if memory.changed_in_files(shipped[uuid]) or overwrite} - kept
    todo = changed | (shipped.keys() - there.keys())
    for uuid in kept:
        yield f"kept, because it was changed in Superset: {there[uuid].name}"
    if not todo:
        yield "nothing else to import" if kept else "nothing to import"
        return
    # Superset requires all referenced assets in one bundle; assets to keep are included unchanged.
    superset.import_assets(there[uuid] if uuid in there and uuid not in todo else asset for uuid, asset in shipped.items())
    now = superset.assets()
    memory.keep({uuid: asset for uuid, asset in shipped.items() if uuid not in kept}, now)
    for uuid in sorted(todo, key=lambda one: shipped[one].path):
        yield f"imported: {shipped[uuid].name}"


def export_assets(superset: Superset, shipped: Mapping[str, Asset], folder: Path) -> Iterator[str]:
    """Writes the current state of the shipped assets to the files, with charts and datasets added to the dashboards."""
    there = superset.assets()
    wanted = {uuid for uuid in shipped if uuid in there}
    for asset in list(there.values()):
        if asset.uuid in wanted and asset.path.startswith("dashboards/"):
            wanted |= {place["meta"]["uuid"] for place in asset.content["position"].values() if _is_chart(place)}
    wanted |= {there[uuid].content["dataset_uuid"] for uuid in wanted if "dataset_uuid" in there[uuid].content}
    for uuid in sorted(wanted, key=lambda one: there[one].path):
        asset = there[uuid]
        path = folder / (shipped[uuid].path if uuid in shipped else _plain(asset))
        content = _with_address(portable(asset.content), MONGODB_IN_FILES)
        if "table_name" in content and uuid in shipped:
            content = in_order(content, shipped[uuid].content)
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=140)
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            yield f"written: {path.relative_to(folder)}"
    for uuid in shipped.keys() - there.keys():
        yield f"no longer in Superset: {shipped[uuid].path}"


def shipped(folder: Path, mongodb: str) -> dict[str, Asset]:
    """The assets of the files, with the address of the database."""
    found = {}
    for kind in KINDS:
        for path in sorted((folder / kind).rglob("*.yaml")):
            asset = Asset(str(path.relative_to(folder)), _with_address(yaml.safe_load(path.read_text()), mongodb))
            found[asset.uuid] = asset
    return found


def mongopipe_url(mongodb: str, database: str, query_seconds: int) -> str:
    """Converts a MongoDB URL to one of the connector, with the database as its path and a time limit for each query."""
    scheme, rest = re.sub(r"^mongodb", "mongopipe", mongodb).split("://", 1)
    hosts, _, options = rest.partition("/")
    limit = f"max_time_ms={query_seconds * 1000}"
    return f"{scheme}://{hosts}/{database}?{'&'.join(filter(None, (options.partition('?')[2], limit)))}"


def portable(content: Content) -> Content:
    """An asset without data specific to one Superset: ids of charts and datasets, and colours that pages record when they are viewed.

    The charts of a dashboard are numbered by the order of their uuids; an import assigns the ids of its Superset.
    """
    if "dashboard_title" in content:
        charts = sorted((place["meta"]["uuid"], place["meta"]["chartId"]) for place in content["position"].values() if _is_chart(place))
        numbers = {old: new for new, (_, old) in enumerate(charts, 1)}
        metadata = {name: value for name, value in content["metadata"].items() if name not in _SEEN}
        return {**content, "position": _renumbered(content["position"], numbers), "metadata": _renumbered(metadata, numbers)}
    if "slice_name" in content:
        params = {name: value for name, value in content["params"].items() if name != "datasource"}
        return {**content, "params": params, "query_context": _without_dataset(content["query_context"])}
    if "table_name" in content:
        return in_order(content, {})
    return content


def in_order(dataset: Content, like: Content) -> Content:
    """A dataset with columns and metrics in the order of another's, as shown when drilling; new ones follow, sorted by name."""
    found = dict(dataset)
    for parts, name in (("columns", "column_name"), ("metrics", "metric_name")):
        known = {one[name]: place for place, one in enumerate(like.get(parts, ()))}
        found[parts] = sorted(dataset.get(parts, ()), key=lambda one: (known.get(one[name], len(known)), one[name]))
    return found


_SEEN = ("shared_label_colors", "map_label_colors", "color_scheme_domain", "color_namespace")
_NUMBERS_OF_CHARTS = ("excluded", "chartsInScope", "timed_refresh_immune_slices")
_BY_NUMBER_OF_CHART = ("chart_configuration", "expanded_slices")


def _renumbered(value: Any, numbers: Mapping[int, int]) -> Any:
    """Replaces ids of charts throughout a dashboard, and drops ids of charts that it does not contain."""
    if isinstance(value, list):
        return [_renumbered(one, numbers) for one in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, one in value.items():
        if name in _NUMBERS_OF_CHARTS and isinstance(one, list):
            found[name] = sorted(numbers[number] for number in one if number in numbers)
        elif name in _BY_NUMBER_OF_CHART and isinstance(one, dict):
            known = {numbers[int(key)]: inner for key, inner in one.items() if key.isdigit() and int(key) in numbers}
            found[name] = {str(number): _renumbered(known[number], numbers) for number in sorted(known)}
        elif name == "chartId" or (name == "id" and isinstance(one, int)):
            found[name] = numbers.get(one, 0)
        else:
            found[name] = _renumbered(one, numbers)
    return found


def _without_dataset(text: str | None) -> str | None:
    """A chart's query without the id of its dataset, which an import sets."""
    if not text:
        return text
    context = json.loads(text)
    context["datasource"] = {"id": 0, "type": "table"}
    for name in ("datasource", "slice_id", "dashboardId"):
        context.get("form_data", {}).pop(name, None)
    return json.dumps(context)


def _with_address(content: Content, url: str) -> Content:
    return {**content, "sqlalchemy_uri": url} if "sqlalchemy_uri" in content else content


def _is_chart(place: object) -> bool:
    return isinstance(place, dict) and place.get("type") == "CHART"


def _plain(asset: Asset) -> str:
    """The path of a new asset's file, without the id that Superset appends."""
    return re.sub(r"_\d+\.yaml$", ".yaml", asset.path)


def _zipped(assets: Iterable[Asset]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as bundle:
        bundle.writestr(
            "assets/metadata.yaml", yaml.safe_dump({"version": "1.0.0", "type": "assets", "timestamp": "2024-01-01T00:00:00+00:00"})
        )
        for asset in assets:
            bundle.writestr(f"assets/{asset.path}", yaml.safe_dump(asset.content, sort_keys=False))
    return packed.getvalue()


def _unzipped(packed: bytes) -> Iterator[Asset]:
    with zipfile.ZipFile(io.BytesIO(packed)) as bundle:
        for name in bundle.namelist():
            path = name.partition("/")[2]
            if path.startswith(tuple(f"{kind}/" for kind in KINDS)):
                yield Asset(path, yaml.safe_load(bundle.read(name)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tidemark.superset.transfer", description="Import or export dashboards as files.")
    parser.add_argument("what", choices=["import", "export"])
    parser.add_argument("--overwrite", action="store_true", help="also replace assets that were changed in Superset")
    given = parser.parse_args()
    limit = int(os.environ.get("SUPERSET_QUERY_SECONDS") or QUERY_SECONDS)
    files = shipped(ASSETS, mongopipe_url(os.environ["SUPERSET_MONGODB_URL"], os.environ["SUPERSET_MONGODB_DATABASE"], limit))
    try:
        superset = Superset(Client(os.environ["SUPERSET_URL"], "admin", os.environ["SUPERSET_PASSWORD"]))
        if given.what == "import":
            lines = import_assets(superset, Memory(Path(os.environ["SUPERSET_HOME"]) / "imported.json"), files, overwrite=given.overwrite)
        else:
            lines = export_assets(superset, files, ASSETS)
        for line in lines:
            sys.stdout.write(f"{line}\n")
    except (SupersetError, requests.RequestException) as error:
        sys.stdout.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
