"""Tables and plots of a comparison."""

import html
import statistics

PLOTS = {
    "rate": ("Requests per second", "more is better", lambda result: result["requests"] / result["seconds"]),
    "cpu": ("CPU microseconds per request, user and system", "less is better", lambda result: cpu_us(result)),
}
COMMAND = "python3 benches/compare"


def rate(result):
    return result["requests"] / result["seconds"]


def cpu_us(result):
    """Returns what the server and its children spent on a request, by the kernel's accounts."""
    return (result["user"] + result["system"]) / max(1, result["requests"]) * 1e6


def milliseconds(name):
    return lambda result: result[name] / 1000


def number(value):
    """Writes three significant digits, or two of a small number."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def spread(values):
    """Writes the median, with minimum and maximum."""
    return f"{number(statistics.median(values))} ({number(min(values))}–{number(max(values))})"


def table(head, rows):
    return "\n".join(
        ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows)]
    )


class Cases:
    """The measurements, by load, connections and peer."""

    def __init__(self, raw):
        self.raw, self.results = raw, {}
        for result in raw["measurements"]:
            key = result["load"], result["connections"], result["peer"]
            self.results.setdefault(key, []).append(result)

    def title(self, peer):
        return self.raw["peers"][peer]["title"]

    def connections(self, load):
        return sorted({connections for name, connections, _ in self.results if name == load})

    def usual_connections(self, load):
        """Returns the number of connections that the first tables and the plots show."""
        connections = self.connections(load)
        return 64 if 64 in connections else connections[-1] if connections else None

    def peers(self, load, connections):
        return [peer for peer in self.raw["peers"] if (load, connections, peer) in self.results]

    def values(self, load, connections, peer, measure):
        return [measure(result) for result in self.results[load, connections, peer]]

    def ratios(self, load, connections, one, other, measure):
        """Returns the quotient of two peers in each round."""
        pairs = zip(self.results[load, connections, one], self.results[load, connections, other], strict=True)
        return [measure(a) / measure(b) for a, b in pairs if measure(b)]


def ratio_table(cases, one="stockroom"):
    rows = []
    for load, title in cases.raw["loads"].items():
        connections = cases.usual_connections(load)
        peers = cases.peers(load, connections)
        for peer in peers:
            if one in peers and peer not in (one, "stockroom-quiet", "stockroom-million"):
                rows.append(
                    [title, cases.title(peer)]
                    + [f"{spread(cases.ratios(load, connections, one, peer, measure))} ×" for measure in (rate, cpu_us)]
                )
    return rows and table(["load", "Stockroom against", "requests/s", "CPU per request"], rows)


def load_table(cases, load):
    rows = []
    for connections in cases.connections(load):
        for peer in cases.peers(load, connections):
            values = lambda measure: cases.values(load, connections, peer, measure)
            share = lambda name: statistics.median(
                values(lambda result: result[name] / max(1, result["requests"]) * 1e6)
            )
            rows.append(
                [
                    str(connections),
                    cases.title(peer),
                    spread(values(rate)),
                    *(
                        number(statistics.median(values(milliseconds(name))))
                        for name in ("p50_us", "p99_us", "p999_us")
                    ),
                    spread(values(cpu_us)),
                    f"{number(share('user'))} + {number(share('system'))}",
                ]
            )
    return table(
        [
            "connections",
            "server",
            "requests/s",
            "p50, ms",
            "p99, ms",
            "p99.9, ms",
            "CPU, µs per request",
            "user + system",
        ],
        rows,
    )


def footprint_table(raw):
    rows = []
    for peer in raw["peers"].values():
        memory = peer["memory"]
        sizes = [f"{memory[name] / 1e6:.1f}" for name in ("idle", "idle_proportional", "loaded", "loaded_proportional")]
        rows.append([peer["title"], spread([seconds * 1000 for seconds in peer["starts"]]), *sizes])
    return table(["server", "start, ms", "idle RSS, MB", "idle PSS, MB", "most RSS, MB", "most PSS, MB"], rows)


def million_table(cases):
    rows = []
    measures = [("requests/s", rate), ("p99", lambda result: result["p99_us"]), ("CPU per request", cpu_us)]
    for load, title in cases.raw["loads"].items():
        for connections in cases.connections(load):
            if {"stockroom", "stockroom-million"} <= set(cases.peers(load, connections)):
                ratios = [
                    f"{spread(cases.ratios(load, connections, 'stockroom-million', 'stockroom', measure))} ×"
                    for _, measure in measures
                ]
                p99 = statistics.median(cases.values(load, connections, "stockroom-million", milliseconds("p99_us")))
                rows.append([title, str(connections), *ratios, number(p99)])
    return rows and table(["load", "connections", *(name for name, _ in measures), "p99, ms"], rows)


def peer_table(raw):
    rows = [[peer["title"], peer["version"], peer["durability"]] for peer in raw["peers"].values()]
    return table(["server", "version", "what a power loss leaves of an acknowledged write"], rows)


def tables(raw, plots=()):
    """Returns the document's body."""
    cases = Cases(raw)
    parts = ["## Servers", peer_table(raw)]
    if ratios := ratio_table(cases):
        parts += ["## Stockroom against each of them", ratios]
    parts += plots
    for load, title in raw["loads"].items():
        if cases.connections(load):
            parts += [f"## Load: {title}", load_table(cases, load)]
    parts += [
        "## Start and memory",
        "A start takes from the call of the program to the first answer: 200 for an item, and 404 from a server that "
        "keeps its items in memory. RSS and PSS are those of all processes of a server; the most is the highest after "
        "any run.",
        footprint_table(raw),
    ]
    million = million_table(cases)
    if million or raw["imports"]:
        parts.append("## A million items against a thousand")
        if million:
            parts.append(million)
        if raw["imports"]:
            rates = [each["items"] / each["seconds"] for each in raw["imports"]]
            cpu = [each["cpu_seconds"] / each["items"] * 1e6 for each in raw["imports"]]
            parts.append(
                f"An import of {raw['imports'][0]['items']:,} items runs at {spread(rates)} rows/s and takes "
                f"{spread(cpu)} µs of CPU per row, all indexes included. Imports measured: {len(rates)}, each into an "
                "empty inventory."
            )
    return "\n\n".join(parts)


def write(document, raw):
    """Writes the document, and its plots beside it."""
    cases, images = Cases(raw), []
    for name, (title, direction, measure) in PLOTS.items():
        path = document.with_name(f"{document.stem}-{name}.svg")
        path.write_text(plot(cases, f"{title} ({direction})", measure))
        images.append(f"![{title}]({path.name})")
    machine = raw["machine"]
    others = max(result["others"] for result in raw["measurements"])
    text = f"""# Performance

Made by `{COMMAND}` in one run, at {raw["commit"]}, on {machine["date"]}. [benches/compare](../benches/compare) says \
what it needs; `{COMMAND} --help` shows how to run a part of it.

The machine has {machine["processors"]} processors ({machine["processor"]}) and {machine["memory"] / 1e9:.0f} GB, Linux \
{machine["kernel"]}, inventories on {machine["file_system"]}. The load generator is wrk, in a closed loop: a connection \
sends its next request when it has its answer. It shares the machine with the servers. In each of {raw["rounds"]} rounds \
of {raw["seconds"]} s every server had its turn, each time another one first. Figures are medians over the rounds, with \
minimum and maximum. CPU time is the kernel's account of the server and its children, and is steadier than requests per \
second. The status of each answer was checked. Other processes took up to {others:.0%} of the machine in a run.

Each server has 1,000 items at first, and writes its log to a file, as it does by default. Ratios are those of the same \
round, at 64 connections where a load has them.

{tables(raw, images)}
"""
    document.write_text(text)


# Colours that differ in lightness too.
COLOURS = ["#1b4f72", "#2e86c1", "#7f8c8d", "#b9770e", "#1e8449", "#7dcea0", "#c39bd3", "#85c1e9"]


def plot(cases, title, measure):
    """Returns bars for each load and server, with the spread as a line, each load on a scale of its own."""
    colours = dict(zip(cases.raw["peers"], COLOURS, strict=False))
    left, width, bar, parts, y = 250, 420, 16, [], 40
    for load, load_title in cases.raw["loads"].items():
        connections = cases.usual_connections(load)
        peers = cases.peers(load, connections)
        if not peers:
            continue
        values = {peer: cases.values(load, connections, peer, measure) for peer in peers}
        scale = width / max(max(each) for each in values.values())
        noun = "connection" if connections == 1 else "connections"
        parts.append(
            f'<text x="10" y="{y + 12}" font-weight="bold">{html.escape(load_title)}, {connections} {noun}</text>'
        )
        y += 20
        for peer in peers:
            low, middle, high = min(values[peer]), statistics.median(values[peer]), max(values[peer])
            centre = y + bar / 2 - 1
            parts += [
                f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">{html.escape(cases.title(peer))}</text>',
                f'<rect x="{left}" y="{y}" width="{middle * scale:.1f}" height="{bar - 2}" fill="{colours[peer]}"/>',
                f'<path d="M{left + low * scale:.1f} {centre}H{left + high * scale:.1f}" stroke="#000"/>',
                f'<text x="{left + high * scale + 6:.1f}" y="{y + 11}">{number(middle)}</text>',
            ]
            y += bar
        y += 14
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {y}" font-family="sans-serif" font-size="12">',
            f'<rect width="760" height="{y}" fill="#fff"/>',
            f'<text x="10" y="22" font-size="15">{html.escape(title)}</text>',
            *parts,
            "</svg>",
            "",
        ]
    )
