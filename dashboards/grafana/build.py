#!/usr/bin/env python3
"""Builds what Grafana reads, dashboards/*.json and provisioning/alerting/weir.json, from boards/*.sql.

    build.py            writes the files
    build.py --check    says which files differ from their source, and exits 1 if any does

A board is a file of SQL. `-- board`, `-- row`, `-- panel`, `-- annotation` and `-- rule` begin a part; a
line `-- key=value ...` sets its options; further comments are its description; the rest is its SQL, in
which build.py replaces

    {rows} {hours} {days} {month}   the dashboard's range on ts, by row or by what the projections of
                                    weir.requests sum (the range's month up to its end for {month}),
                                    and the filters
    {filters}                       the filters alone
    {bucket} {hour_bucket}          ts cut into the panel's intervals

Columns say by their names what they hold: NAME_usd, NAME_percent, NAME_ms, NAME_s, request_id.
"""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
DATASOURCE = {"type": "grafana-clickhouse-datasource", "uid": "${datasource}"}
PROMETHEUS = {"type": "prometheus", "uid": "${prometheus}"}
PLUGIN_VERSION = "4.20.0"
SCHEMA_VERSION = 39
DIMENSIONS = ["organisation", "team", "project", "environment", "model", "provider", "alias", "user"]
# Columns whose values lead somewhere: the board, and its variable.
LINKS = {"team": "weir-spend", "project": "weir-spend", "model": "weir-latency", "provider": "weir-latency",
         "alias": "weir-routing", "user": "weir-audit"}


def chosen(name):
    """The filter of a variable: nothing with All, otherwise any of the values.

    The values come percent-encoded, so that nothing that a client calls itself ends the string that it
    stands in; the plugin's own quoting, and Grafana's for SQL, leave backslashes as they are.
    """
    prefix = len(f"var-{name}=") + 1
    value = f"if(endsWith(v, '=%28none%29'), '', decodeURLComponent(substring(v, {prefix})))"
    return f"$__conditionalAll({name} IN arrayMap(v -> {value}, splitByChar('&', '${{{name}:queryparam}}')), ${name})"


FILTERS = "\n  AND ".join(chosen(name) for name in DIMENSIONS)
PLACES = {
    "rows": "$__timeFilter_ms(ts)\n  AND " + FILTERS,
    "hours": "toStartOfHour(ts) >= toStartOfHour($__fromTime, 'UTC') AND toStartOfHour(ts) <= $__toTime\n  AND " + FILTERS,
    "days": "toDate(ts) >= toDate($__fromTime, 'UTC') AND toDate(ts) <= toDate($__toTime, 'UTC')\n  AND " + FILTERS,
    "month": "toDate(ts) >= toStartOfMonth($__toTime, 'UTC') AND toDate(ts) <= toDate($__toTime, 'UTC')\n  AND " + FILTERS,
    "filters": FILTERS,
    "bucket": "$__timeInterval(ts)",
    "hour_bucket": "$__timeInterval(toStartOfHour(ts))",
}


def sql_of(lines):
    """The SQL as Grafana gets it. Where the filters hold, ad hoc filters do, too."""
    text = "\n".join(lines).strip()
    sql = re.sub(r"\{(\w+)\}", lambda place: PLACES[place[1]], text)
    if FILTERS in sql:
        tables = ", ".join(f"'{table}'" for table in ("weir.requests", "weir.attempts") if table in sql)
        sql += f"\nSETTINGS $__adHocFilters({tables})"
    return sql


def parts_of(path):
    """The parts of a board's file: (kind, title, options, description, SQL)."""
    parts = []
    for line in path.read_text().splitlines():
        begins = re.match(r"-- (board|row|panel|annotation|rule|variable) (.+)", line)
        if begins:
            parts.append({"kind": begins[1], "title": begins[2], "options": {}, "says": [], "lines": []})
        elif line.startswith("-- ") and re.match(r"-- \w+=", line):
            parts[-1]["options"].update(re.findall(r"(\w+)=(\"[^\"]*\"|\S+)", line))
        elif line.startswith("--"):
            parts[-1]["says"].append(line[2:].strip())
        elif parts:
            parts[-1]["lines"].append(line)
    for part in parts:
        part["says"] = " ".join(part["says"]).strip()
        part["options"] = {key: value.strip('"') for key, value in part["options"].items()}
        part["sql"] = sql_of(part.pop("lines"))
    return parts


def target(sql, letter, is_series):
    return {
        "datasource": DATASOURCE,
        "editorType": "sql",
        "format": 0 if is_series else 1,
        "meta": {},
        "pluginVersion": PLUGIN_VERSION,
        "queryType": "timeseries" if is_series else "table",
        "rawSql": sql,
        "refId": letter,
    }


def matched(pattern, *properties):
    return {
        "matcher": {"id": "byRegexp", "options": pattern},
        "properties": [{"id": key, "value": value} for key, value in properties],
    }


def link(title, url):
    return {"title": title, "url": url}


def overrides(options):
    """What columns are shown as, by their names."""
    rules = [
        matched("/(_|^)usd$/", ("unit", "currencyUSD")),
        matched("/(_|^)percent( |$)/", ("unit", "percent")),
        matched("/_ms$/", ("unit", "ms")),
        matched("/_s$/", ("unit", "s")),
        matched("/^(time|ts|first|last|.*_at)$/", ("unit", "dateTimeAsIso")),
    ]
    if options.get("kind") == "table":
        request = [
            link("This request", "/d/weir-request?var-request=${__value.raw}&${datasource:queryparam}&${console:queryparam}"),
            link("This request in Weir's console", "${console}#/requests/${__value.raw}"),
        ]
        rules.append(matched("/^request_id$/", ("links", request)))
        for column, board in LINKS.items():
            url = f"/d/{board}?${{__url_time_range}}&var-{column}=${{__value.raw:percentencode}}&${{datasource:queryparam}}&${{console:queryparam}}"
            rules.append(matched(f"/^{column}$/", ("links", [link(f"What this {column} does", url)])))
    return rules


def look(kind, options):
    if kind == "stat":
        return {
            "colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "/.*/", "values": False},
            "showPercentChange": False, "textMode": "value_and_name", "wideLayout": True,
        }
    if kind == "table":
        return {"cellHeight": "sm", "footer": {"countRows": False, "fields": "", "reducer": ["sum"], "show": False}, "showHeader": True}
    if kind == "heatmap":
        return {
            "calculate": False, "cellGap": 1, "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
            "legend": {"show": True}, "rowsFrame": {"layout": "le"}, "tooltip": {"mode": "single"}, "yAxis": {"axisPlacement": "left"},
        }
    return {
        "legend": {"calcs": options["calcs"].split(",") if "calcs" in options else [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def drawn(options):
    return {
        "drawStyle": options.get("draw", "line"),
        "fillOpacity": 60 if "stack" in options else 10,
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": options.get("stack", "none")},
    }


def steps(options):
    """`above=10,50`: yellow from 10, red from 50."""
    colours = ["green", "yellow", "red"] if options.get("above", "").count(",") else ["green", "red"]
    ends = [None] + [float(end) for end in options["above"].split(",")] if "above" in options else [None]
    return [{"color": colour, "value": end} for colour, end in zip(colours, ends)]


def panel(part, number, place):
    options, kind = part["options"], part["options"].get("kind", "timeseries")
    source = PROMETHEUS if "promql" in options else DATASOURCE
    defaults = {"custom": drawn(options)} if kind == "timeseries" else {}
    defaults["thresholds"] = {"mode": "absolute", "steps": steps(options)}
    if kind in ("table", "stat"):
        defaults["noValue"] = "none"
    for key in ("unit", "max", "min", "decimals"):
        if key in options:
            defaults[key] = options[key] if key == "unit" else float(options[key])
    if "series" in options:
        defaults["displayName"] = "${__field.labels." + options["series"] + "}"
    targets = [target(part["sql"], "A", kind in ("timeseries", "heatmap"))]
    if "promql" in options:
        targets = [{"datasource": source, "editorMode": "code", "expr": part["sql"], "legendFormat": options["promql"], "range": True, "refId": "A"}]
    made = {
        "datasource": source,
        "description": part["says"],
        "fieldConfig": {"defaults": defaults, "overrides": overrides({"kind": kind})},
        "gridPos": place,
        "id": number,
        "options": look(kind, options),
        "targets": targets,
        "title": part["title"],
        "type": kind,
    }
    if kind in ("timeseries", "heatmap"):
        made["maxDataPoints"] = int(options.get("points", 300))
        made["interval"] = options.get("interval", "1m")
    return made


def laid_out(parts):
    """Panels from left to right; `w` and `h` are their size, of 24 columns."""
    panels, x, y, height = [], 0, 0, 0
    for part in parts:
        wide = 24 if part["kind"] == "row" else int(part["options"].get("w", 12))
        high = 1 if part["kind"] == "row" else int(part["options"].get("h", 8))
        if x + wide > 24 or part["kind"] == "row":
            x, y, height = 0, y + height, 0
        place = {"h": high, "w": wide, "x": x, "y": y}
        number = len(panels) + 1
        if part["kind"] == "row":
            panels.append({"collapsed": False, "gridPos": place, "id": number, "panels": [], "title": part["title"], "type": "row"})
        else:
            panels.append(panel(part, number, place))
        x, height = x + wide, max(height, high)
    return panels


def all_values():
    return {"selected": True, "text": ["All"], "value": ["$__all"]}


def dimension(name):
    scope = "" if name in ("organisation", "provider") else f"\n  AND {chosen('organisation')}"
    scope += f"\n  AND {chosen('team')}" if name in ("project", "user") else ""
    when = "toDate(ts) >= toDate($__fromTime, 'UTC') AND toDate(ts) <= toDate($__toTime, 'UTC')"
    sql = f"SELECT if({name} = '', '(none)', {name}) AS value\nFROM weir.requests\nWHERE {when}{scope}\nGROUP BY {name}\nORDER BY count() DESC, value\nLIMIT 1000"
    return {
        "allowCustomValue": True, "current": all_values(), "datasource": DATASOURCE, "definition": sql, "includeAll": True,
        "label": name.capitalize(), "multi": True, "name": name, "options": [],
        "query": {"editorType": "sql", "format": 1, "queryType": "sql", "rawSql": sql, "refId": name},
        "refresh": 2, "regex": "", "sort": 0, "type": "query",
    }


def source_variable(name, label, plugin, uid):
    return {
        "current": {"text": label, "value": uid}, "hide": 0, "includeAll": False, "label": label, "multi": False, "name": name, "options": [],
        "query": plugin, "refresh": 1, "regex": "", "type": "datasource",
    }


def text_variable(name, label, value):
    current = {"selected": True, "text": value, "value": value}
    return {"current": current, "label": label, "name": name, "options": [current], "query": value, "type": "textbox"}


def ad_hoc():
    """Filters on any further column; the hidden constant says of which table."""
    table = {"hide": 2, "name": "clickhouse_adhoc_query", "query": "weir.requests", "skipUrlSync": True, "type": "constant"}
    return [{"datasource": DATASOURCE, "filters": [], "label": "More", "name": "more", "type": "adhoc"}, table]


def variables(options, parts):
    made = [source_variable("datasource", "Weir", DATASOURCE["type"], "weir")]
    if any("promql" in part["options"] for part in parts):
        made.append(source_variable("prometheus", "Prometheus", "prometheus", "default"))
    if options.get("filters") != "none":
        made += [dimension(name) for name in DIMENSIONS] + ad_hoc()
    if "text" in options:
        made.append(text_variable(options["text"], options["text"].capitalize(), ""))
    return made + [text_variable("console", "Console", "http://127.0.0.1:8090/")]


def annotation(part):
    return {
        "datasource": DATASOURCE, "enable": "hidden" not in part["options"], "hide": False,
        "iconColor": part["options"].get("colour", "blue"), "name": part["title"],
        "target": target(part["sql"], "annotation", False),
    }


def board(path, annotations):
    head, *parts = parts_of(path)
    options = head["options"]
    shown = options.get("annotations", "").split(",")
    panels = [part for part in parts if part["kind"] in ("panel", "row")]
    return {
        "annotations": {"list": [annotation(part) for part in annotations if part["options"]["name"] in shown]},
        "description": head["says"],
        "editable": False,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "id": None,
        "links": [{
            "asDropdown": False, "icon": "external link", "includeVars": True, "keepTime": True, "tags": ["weir"],
            "targetBlank": False, "title": "Weir", "tooltip": "", "type": "dashboards", "url": "",
        }],
        "panels": laid_out(panels),
        "refresh": options.get("refresh", ""),
        "schemaVersion": SCHEMA_VERSION,
        "tags": [] if "text" in options else ["weir"],
        "templating": {"list": variables(options, parts)},
        "time": {"from": options["from"], "to": "now"},
        "timepicker": {},
        "timezone": "utc",
        "title": "Weir / " + head["title"],
        "uid": options["uid"],
        "version": 1,
        "weekStart": "",
    }


def rule(part, boards):
    """Fires for each row of the query whose number is above the limit."""
    options = part["options"]
    shown = boards[options["board"]]
    number = next(it["id"] for it in shown["panels"] if it["title"] == options["panel"])
    begin = {"from": int(options["range_s"]), "to": 0}
    asked = target(part["sql"], "A", False) | {"datasource": {"type": DATASOURCE["type"], "uid": "weir"}, "intervalMs": 60000, "maxDataPoints": 43200}
    limit = {
        "conditions": [{"evaluator": {"params": [float(options["above"])], "type": "gt"}}],
        "datasource": {"type": "__expr__", "uid": "__expr__"}, "expression": "A", "refId": "B", "type": "threshold",
    }
    return {
        "annotations": {"__dashboardUid__": shown["uid"], "__panelId__": str(number), "summary": part["says"]},
        "condition": "B",
        "data": [
            {"datasourceUid": "weir", "model": asked, "refId": "A", "relativeTimeRange": begin},
            {"datasourceUid": "__expr__", "model": limit, "refId": "B", "relativeTimeRange": begin},
        ],
        "execErrState": "Error",
        "for": options.get("for", "0s"),
        "labels": {"service": "weir", "severity": options["severity"]},
        "noDataState": "OK",
        "title": part["title"],
        "uid": options["uid"],
    }


def built():
    """Path and content of every file."""
    annotations = parts_of(HERE / "annotations.sql")
    files = {}
    boards = {path.stem: board(path, annotations) for path in sorted((HERE / "boards").glob("*.sql"))}
    for name, made in boards.items():
        files[HERE / "dashboards" / f"{name}.json"] = made
    rules = [rule(part, boards) for part in parts_of(HERE / "alerts.sql")]
    group = {"folder": "Weir", "interval": "1m", "name": "weir", "orgId": 1, "rules": rules}
    files[HERE / "provisioning/alerting/weir.json"] = {"apiVersion": 1, "groups": [group]}
    return {path: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for path, content in files.items()}


def main():
    files = built()
    there = set((HERE / "dashboards").glob("*.json"))
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    stale += there - files.keys()
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(HERE)} is not what build.py makes")
        sys.exit(1 if stale else 0)
    for path in there - files.keys():
        path.unlink()
    for path, text in files.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
