"""The pure functions of the comparison: medians, ratios, rows, tables, the drawing."""

import json
import unittest
import xml.etree.ElementTree as ElementTree

import asked
import plot
from figures import (
    OURS, Comparison, at_least, at_most, between_markers, markdown, median, no_more_than, quantity, ratio, rotated,
    rows, table,
)

HEADER = {"date": "2030-01-02T03:04:05+00:00", "cpu": "a <CPU>", "cpus": 2, "kernel": "6.18", "rounds": 3, "versions": "x 1"}


class Figures(unittest.TestCase):
    def test_median(self):
        self.assertEqual(median([3, 1, 2]), 2)
        self.assertEqual(median([4, 1, 2, 3]), 2.5)
        self.assertEqual(median([None, 7]), 7)
        self.assertIsNone(median([None]))
        self.assertIsNone(median([]))

    def test_ratio(self):
        self.assertEqual(ratio(3, 2), 1.5)
        for ours, theirs in ((None, 1), (1, None), (1, 0), (1, -2)):
            self.assertIsNone(ratio(ours, theirs))

    def test_everyone_begins_once(self):
        orders = [rotated("abc", number) for number in range(4)]
        self.assertEqual(["".join(order) for order in orders], ["abc", "bca", "cab", "abc"])

    def test_quantities(self):
        for value, text in ((28.123, "28.1"), (3.14159, "3.14"), (123.4, "123"), (1234567.8, "1,234,568"), (0, "0"), (-0.5, "-0.50")):
            self.assertEqual(quantity(value, "µs"), f"{text} µs")
        self.assertEqual(quantity(None, "µs"), "—")
        self.assertEqual(quantity(3, ""), "3")

    def rows(self, comparisons, results, missing=None):
        return rows(comparisons, results, {"peer": "a peer"}, missing or {})

    def test_a_row_has_medians_their_ratio_and_whether_that_is_enough(self):
        results = {"tcp": {OURS: [20, 30, 10], "peer": [10, 10, 40]}}
        for ask, met in ((at_least(2), True), (at_least(2.1), False), (at_most(2), True), (no_more_than(19), False), (None, None)):
            [row] = self.rows([Comparison("g", "w", "u", "tcp", "peer", ask)], results)
            self.assertEqual((row["honeyweave"], row["peer"], row["peer_value"], row["ratio"]), (20, "a peer", 10, 2))
            self.assertEqual(row["met"], met)
        self.assertEqual(row["asked"], None)
        self.assertEqual(at_least(0.9, aim=True).text(""), "≥ 0.9 × (aim)")
        self.assertEqual(no_more_than(20).text("µs"), "≤ 20 µs")

    def test_constants_and_what_is_added(self):
        [row] = self.rows([Comparison("g", "w", "", "echo", "peer", at_least(4), constant=95_000)], {"echo": {OURS: [380_000]}})
        self.assertEqual((row["ratio"], row["met"]), (4, True))
        results = {"rtt": {OURS: [30], "peer": [70], "bridge": [20]}}
        [row] = self.rows([Comparison("g", "w", "µs", "rtt", "peer", no_more_than(10), above="bridge")], results)
        self.assertEqual((row["honeyweave"], row["peer_value"], row["met"]), (10, 50, True))

    def test_what_is_missing_is_said_and_what_was_not_wanted_is_left_out(self):
        comparisons = [Comparison("g", "w", "", "tcp", "peer", at_least(1)), Comparison("g", "v", "", "other", "peer")]
        [row] = self.rows(comparisons, {"tcp": {OURS: [1]}}, {("tcp", "peer"): "MISSING"})
        self.assertEqual((row["note"], row["met"], row["ratio"]), ("MISSING", None, None))
        self.assertIn("MISSING", table([row]))
        [row] = self.rows(comparisons, {}, {("tcp", OURS): "not measured: later"})
        self.assertEqual((row["honeyweave"], row["note"]), (None, "not measured: later"))

    def test_all_comparisons_make_rows(self):
        comparisons = asked.comparisons()
        measures = {c.measure for c in comparisons}
        results = {measure: {subject: [5.0, 6.0, 4.0] for subject in asked.LABELS} for measure in measures}
        made = rows(comparisons, results, asked.LABELS, {})
        self.assertEqual(len(made), len(comparisons))
        for key in ("what", "honeyweave", "peer", "peer_value", "ratio", "asked"):
            self.assertTrue(all(key in row for row in made), key)
        self.assertEqual(json.loads(json.dumps(made)), made)
        self.assertEqual(len(table(made).splitlines()), len(made) + 1)
        page = markdown(HEADER, made)
        self.assertEqual(page.count("\n| "), len(made) + len({row["group"] for row in made}))
        self.assertTrue(all(line.count("|") == 8 for line in page.splitlines() if line.startswith("| ")), page)

    def test_the_page_changes_between_its_marks_only(self):
        self.assertEqual(between_markers("a [[ old ]] b", "[[", "]]", "new\n"), "a [[\nnew\n]] b")
        for broken in ("a", "a [[", "]] [[", "[[ [[ ]]"):
            with self.assertRaises(ValueError):
                between_markers(broken, "[[", "]]", "new")

    def test_the_drawing_is_xml_with_a_bar_for_each(self):
        results = {"tcp1": {OURS: [20], "bridge": [40]}, "echo": {OURS: [5]}, "rst": {"kernel": [1]}}
        drawing = ElementTree.fromstring(plot.svg(results, asked.LABELS, "<2 cores> & more"))
        bars = [rect for rect in drawing.iter("{http://www.w3.org/2000/svg}rect") if rect.get("fill") != "#ffffff"]
        self.assertEqual(len(bars), 4)
        self.assertEqual(int(bars[0].get("width")), 2 * int(bars[1].get("width")))
        self.assertIsNone(plot.svg({}, asked.LABELS, ""))


if __name__ == "__main__":
    unittest.main()
