#!/usr/bin/env python3
"""page_test.py GRIST: what `grist report` writes is well-formed, and refuses are one line."""
import html.parser, json, pathlib, re, subprocess, sys, tempfile, xml.etree.ElementTree as xml

VOID = {"meta"}


class Nesting(html.parser.HTMLParser):
    """Every element that is opened is closed, in order."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text, self.attributes, self.boxes = [], set(), "", [], []

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        self.attributes.append((tag, dict(attributes)))
        if tag == "table":
            self.boxes.append(self.attributes[-2])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_startendtag(self, tag, attributes):
        self.seen.add(tag)
        self.attributes.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def rules(style):
    """Declarations by selector, and of @media print apart."""
    def parsed(text):
        return {name.strip(): body for names, body in re.findall(r"([^{}]+){([^{}]*)}", text)
                for name in names.split(",")}
    screen, printed = style.split("@media print {", 1)
    return parsed(screen), parsed(printed.rsplit("}", 1)[0])


def check_style(page, parser):
    """Nothing is wider than a phone but tables, which scroll in a box of their own; on paper nothing scrolls, what
    belongs together stays on a page, and all is black on white."""
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in parser.attributes
    assert parser.boxes and all(box == ("div", {"class": "wide"}) for box in parser.boxes), parser.boxes
    for tag, attributes in parser.attributes:
        assert tag in ("rect", "svg") or "width" not in attributes, (tag, attributes)
        assert tag != "svg" or ("viewbox" in attributes and "width" not in attributes), attributes
        assert "style" not in attributes, (tag, attributes)
    style = re.search(r"<style>(.*)</style>", page, re.S).group(1)
    screen, printed = rules(style)
    assert "overflow-x: auto" in screen[".wide"] and "overflow: visible" in printed[".wide"]
    assert "width: 100%" in screen["svg"] and "overflow-wrap: anywhere" in screen["body"]
    for name in ("svg", "figure", "tr", "tbody"):
        assert "break-inside: avoid" in printed[name], name
    assert "break-after: avoid" in printed["h2"] and "color: #000" in printed["body"]
    assert "white-space: normal" in printed["td"]


def run(*words):
    return subprocess.run([sys.argv[1], "report", *map(str, words)], capture_output=True, text=True, check=False)


def row(application, platform, value, limit, ranks=1):
    return {"application": application, "problem": "tg128 <b>", "platform": platform, "fom": value, "limit": limit,
            "ranks": ranks, "n_threads": 2, "flops": 2e9, "bytes": 1e9, "avg_ns": 1e7, "read_bandwidth": 5e10,
            "gemm_f32": 2e11, "gemm_bf16": 9e11, "unit": "tokens"}


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    one, two = folder / "one.json", folder / "two.jsonl"
    one.write_text(json.dumps([row("grist", "cpu", 40, 50), row("grist", "gpu", 60, 100),
                               row("grist", "gpu", 110, 200, 2)]))
    two.write_text(json.dumps(row("peer & co", "cpu", 25, 50)) + "\n")
    outputs = {ending: folder / f"report.{ending}" for ending in ("html", "svg", "csv")}
    for output in outputs.values():
        done = run(one, two, "-o", output)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
    page = outputs["html"].read_text()
    parser = Nesting()
    parser.feed(page)
    parser.close()
    assert parser.open == [], parser.open
    assert {"svg", "table", "h2", "polyline"} <= parser.seen, parser.seen
    assert "script" not in parser.seen and "link" not in parser.seen and "img" not in parser.seen
    check_style(page, parser)
    # grist: 0.8 and 0.6; the peer has no result on the gpu.
    for words in ("0.686", "0.000", "40.00 t/s", "peer & co", "tg128 <b>", "80.0 %", "80 % of limit, 1.60 x peer"):
        assert words in parser.text, words
    xml.fromstring(page)
    assert xml.fromstring(outputs["svg"].read_text()).tag == "{http://www.w3.org/2000/svg}svg"
    lines = outputs["csv"].read_text().splitlines()
    assert len(lines) == 5 and lines[0].startswith("date,fom,application,problem,platform"), lines
    again = folder / "again.csv"
    done = run(outputs["csv"], "-o", again)
    assert done.returncode == 0 and re.sub("[^,]*\n", "\n", again.read_text()) == re.sub(
        "[^,]*\n", "\n", outputs["csv"].read_text()), "what it writes it reads"

    (folder / "bad.json").write_text("[{}]")
    for words, code, said in (((one, "-o", folder / "x.pdf"), 2, "expected a name that ends in .html, .svg or .csv"),
                              ((folder / "bad.json", "-o", folder / "x.html"), 3, "row 1: 'application' is missing"),
                              ((one, "-o", folder / "no" / "x.html"), 3, "cannot be written"),
                              ((one,), 2, "--output")):
        done = run(*words)
        assert done.returncode == code and said in done.stderr and done.stderr.count("\n") == 1, done
