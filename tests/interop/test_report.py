"""The page for people: well-formed, complete in itself, and unmoved by what names hold."""

import json
import re
from html.parser import HTMLParser

import support
from support import EXAMPLE, InteropTest

VOID = {"meta", "br", "input"}
HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'onmouseover='x", "a&amp;b",
    "</title></style></script>", "\u202egnp.exe", "http://example.com/", "a" * 500, "\u0007", "",
]


class Page(HTMLParser):
    """Checks that elements are nested and closed; collects their texts, names and attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        if self.open:
            raise AssertionError(f"not closed: {self.open}")

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attributes]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            raise AssertionError(f"</{tag}> closes nothing at line {self.getpos()}")

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)


class ReportTest(InteropTest):
    def page(self, *inputs):
        output = self.new_path(".html")
        self.succeed("report", *inputs, "-o", output)
        return self.checked(output)

    def checked(self, path):
        text = path.read_text()
        page = Page(text)
        ids = [value for _, name, value in page.attributes if name == "id"]
        self.assertEqual(len(ids), len(set(ids)), "an id twice")
        for tag, name, value in page.attributes:
            self.assertNotIn(name, ("src", "href", "srcset", "action", "data", "xlink:href"))
            self.assertFalse(name.startswith("on"), f"{tag} {name}={value}")
        self.assertFalse({"link", "img", "iframe", "object", "base"} & set(page.tags))
        style = re.search(r"<style>(.*?)</style>", text, re.S)[1]
        self.assertNotRegex(style, r"url\(|@import|//")
        self.assertEqual(text.count("<script>"), 1)
        return page

    def runs(self, *widths):
        return [self.write(self.compress(EXAMPLE, "--nbits", nbits)[1]) for nbits in widths]

    def write(self, json_text, suffix=".json"):
        path = self.new_path(suffix)
        path.write_text(json_text if isinstance(json_text, str) else json.dumps(json_text))
        return path

    def test_json_says_how_it_was_made(self):
        output, run = self.compress(EXAMPLE, "--nbits", 4)
        self.assertEqual(run["model"], str(EXAMPLE))
        self.assertEqual(run["output"], str(output))
        self.assertEqual(run["method"], "kmeans")
        self.assertEqual(run["options"], {"nbits": "4"})
        for weight in run["weights"]:
            self.assertEqual("histogram" in weight, weight["status"] == "compressed")
            if "histogram" in weight:
                histogram = weight["histogram"]
                elements = 1
                for size in weight["shape"]:
                    elements *= size
                self.assertEqual(sum(histogram["counts"]) + histogram["below"]
                                 + histogram["above"], elements)
                self.assertEqual(len(weight["luts"]), 16)
                self.assertEqual(weight["luts"], sorted(weight["luts"]))

    def test_compress_report(self):
        output, html = self.new_path(), self.new_path(".html")
        self.succeed("compress", EXAMPLE, "-o", output, "--nbits", 4, "--report", html, "-q")
        page = self.checked(html)
        self.assertIn("hidden_weight_to_fp16", page.texts)
        self.assertEqual(page.tags.count("figure"), 6)

    def test_same_page_from_json(self):
        output, run, html = self.new_path(), self.new_path(".json"), self.new_path(".html")
        self.succeed("compress", EXAMPLE, "-o", output, "--nbits", 2, "--json", run, "--report",
                     html, "-q")
        again = self.new_path(".html")
        self.succeed("report", run, "-o", again)
        self.assertEqual(html.read_bytes(), again.read_bytes())

    def test_hostile_names(self):
        run = json.loads(self.runs(4)[0].read_text())
        for weight, name in zip(run["weights"], HOSTILE * 3):
            weight["name"] = weight["op"] = weight["reason"] = name
        for key in ("model", "output", "method"):
            run[key] = HOSTILE[0]
        run["options"] = {name: name for name in HOSTILE}
        run["training"] = [{"step": 1, HOSTILE[0]: 2.5}, {"step": 2, HOSTILE[0]: 1.5}]
        page = self.page(self.write(run))
        several = self.page(*[self.write(dict(run, model=name)) for name in HOSTILE[:5]])
        for shown in (page, several):
            self.assertEqual(shown.tags.count("script"), 1)
            self.assertIn(HOSTILE[0], shown.texts)
        self.assertFalse(any("\u0007" in text for text in page.texts))

    def test_hundreds_of_layers(self):
        run = json.loads(self.runs(4)[0].read_text())
        weight = next(w for w in run["weights"] if w["status"] == "compressed")
        run["weights"] = [dict(weight, name=f"layer {i}") for i in range(300)]
        page = self.page(self.write(run))
        self.assertEqual(page.tags.count("li"), 300)
        self.assertIn("Show all 300", page.texts)

    def test_several_runs_and_their_scores(self):
        runs = self.runs(2, 4)
        first = json.loads(runs[0].read_text())
        scores = [self.write({"samples": 100, "seconds": 1, "model": model, "top1": top1})
                  for model, top1 in ((first["output"], 71.25), (str(EXAMPLE), 91.5),
                                      (json.loads(runs[1].read_text())["output"], 90.0))]
        page = self.page(scores[0], *runs, *scores[1:])
        text = " ".join(page.texts)
        self.assertIn("71.25", text)
        self.assertIn("Size and accuracy", text)
        self.assertIn("before", text)
        self.assertEqual(page.tags.count("circle"), 2)

    def test_held_back_is_no_score(self):
        """It is of other samples than a score, which stands beside it."""
        runs = []
        for top1, path in zip((61.25, 62.5), self.runs(2, 4)):
            run = json.loads(path.read_text())
            run["held_back"] = {"samples": 80, "top1": top1}
            runs.append(self.write(run))
        before = self.write({"samples": 100, "model": str(EXAMPLE), "top1": 91.5})
        text = " ".join(self.page(runs[0], before).texts)
        self.assertIn("held back from training, 80 samples", text)
        self.assertIn("61.25", text)
        self.assertNotIn("points from", text)
        self.assertNotIn("Size and accuracy", " ".join(self.page(*runs, before).texts))
        after = self.write({"samples": 100, "model": run["output"], "top1": 90})
        text = " ".join(self.page(runs[1], before, after).texts)
        self.assertIn("-1.50", text)
        self.assertIn("62.5", text)

    def test_logs_of_training(self):
        run, = self.runs(4)
        table = "step,loss,learning_rate,note\n1,2.5,0.1,begin\n2,1.5,0.05,\n3,,0.01,end\n"
        lines = '{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 1.5, "accuracy": 80}\n'
        array = json.dumps([json.loads(line) for line in lines.splitlines()])
        for text, curves in ((table, ["loss", "learning rate"]), (lines, ["loss", "accuracy"]),
                             (array, ["loss", "accuracy"])):
            with self.subTest(text=text):
                page = self.page(run, self.write(text, ".log"))
                titles = [text for text in page.texts if text in ("loss", "learning rate", "accuracy")]
                self.assertEqual(titles, curves)

    def test_odd_json(self):
        run = json.loads(self.runs(4)[0].read_text())
        run["weights"] += [None, 1, "weight", [], {}, {"status": "compressed"},
                           {"status": "compressed", "nbits": -1, "bytes": 1e300, "psnr": "high",
                            "shape": [None, "x"], "histogram": {"low": 1, "high": 0,
                                                                "counts": [None, -1, 1e308]}}]
        run |= {"options": [], "training": [1, None, {"step": "x", "loss": 1}], "score": 5,
                "seconds": "long", "method": None, "bytes_after": 0}
        self.page(self.write(run))
        self.page(self.write(run), self.write(run))

    def test_refusals(self):
        run, = self.runs(4)
        output = self.new_path(".html")
        log = self.write("step,loss\n1,2\n", ".csv")
        for inputs, pattern, status in (
            ([self.folder / "missing.json"], "missing.json: cannot open", 1),
            ([self.write({"weights": []})], "not what compress --json", 1),
            ([self.write({"unknown": 1})], "not what compress --json", 1),
            ([run, self.write("step,loss\n1\n", ".csv")], "line 2: 1 columns", 1),
            ([run, self.write("{broken\n", ".json")], "line 1", 1),
            ([run, self.write("", ".csv")], "empty", 1),
            ([log, run], "comes after the run", 2),
            ([run, self.write({"samples": 1, "model": "else.onnx"})], "else.onnx", 1),
            ([], "no input file", 2),
        ):
            with self.subTest(pattern=pattern):
                self.assert_refused(["report", *inputs, "-o", output], output, pattern,
                                    status=status)
        folder = self.folder / "folder"
        (folder / "inside").mkdir(parents=True)
        process = support.run("report", run, "-o", folder)
        self.assertNotEqual(process.returncode, 0, "replaced a directory")
        self.assertTrue((folder / "inside").is_dir())
