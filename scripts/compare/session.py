"""One subject in one round: where it runs, who makes the load, and where its figures go."""

import json

from lab import Failed, in_ns, run
from quiet import quietly


class Results(dict):
    """{measure: {subject: [a value a round]}}, and how much others used the machine meanwhile."""

    def __init__(self):
        super().__init__()
        self.noise = []

    def add(self, subject, figures):
        for measure, value in figures.items():
            self.setdefault(measure, {}).setdefault(subject, []).append(value)


class Session:
    """`wanted` tells which measures are asked for."""

    def __init__(self, lab, subject, tools, wanted, results):
        self.lab = lab
        self.subject = subject
        self.tools = tools
        self.wanted = wanted
        self.results = results

    def measure(self, figures, *args):
        """Calls `figures` in quiet, which returns {measure: value}, and keeps those; returns them, too."""
        found = quietly(self.lab, self.results.noise, lambda: figures(self, *args))
        self.results.add(self.subject, found)
        return found

    def load(self, ns, kind, interface, rate, *more, seconds=None):
        """A command of `honeyweave bench`."""
        bounds = ("--interface", interface, "--rate", str(rate), "--duration", f"{seconds or self.tools.seconds}s")
        return in_ns(ns, (self.tools.generator, "bench", kind, *bounds, "--json", *(str(word) for word in more)))

    def ask(self, *args, **more):
        """Its report."""
        report = json.loads(run(*self.load(*args, **more), timeout=600))
        if report["interrupted"]:
            raise Failed("the generator was interrupted")
        return report


def per_second(report):
    """Answers a second of the time in which there were questions: what stops answering early has not been fast."""
    return report["answered"] / report["seconds"]


def latency_us(report, *quantiles):
    latency = report["latency_ns"]
    if latency is None:
        raise Failed("nothing was answered")
    return [latency[quantile] / 1000 for quantile in quantiles]
